# No downloads, no GPU: model-free scores, RapidOCR (its model comes with the package), captions from measurements.
METRICS=${METRICS:-TechnicalScore}
QUALITY_SCORE=${QUALITY_SCORE:-technical_score} # column of METRICS to filter by; its file has the same name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-${TECHNICAL_SCORE_THRESHOLD:-4}}
TEXT_DETECTOR=${TEXT_DETECTOR:-rapidocr}
CAPTIONER=${CAPTIONER:-attributes}
SUMMARIZER=${SUMMARIZER:-attributes}
