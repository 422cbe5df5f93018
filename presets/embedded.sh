# Nothing is downloaded and no GPU is needed: scores without a model, RapidOCR (its model comes with the package), captions from what was measured.
METRICS=${METRICS:-TechnicalScore}
QUALITY_SCORE=${QUALITY_SCORE:-technical_score} # the column that decides, of those that METRICS give; its file has its name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-${TECHNICAL_SCORE_THRESHOLD:-4}}
TEXT_DETECTOR=${TEXT_DETECTOR:-rapidocr}
CAPTIONER=${CAPTIONER:-attributes}
SUMMARIZER=${SUMMARIZER:-attributes}
