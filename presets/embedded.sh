# Nothing is downloaded and no GPU is needed: scores without a model, RapidOCR (its model comes with the package), captions from what was measured.
METRICS=${METRICS:-TechnicalScore}
QUALITY_SCORE=${QUALITY_SCORE:-technical_score} # the column that decides, of those that METRICS give; its file has its name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-${TECHNICAL_SCORE_THRESHOLD:-4}}
TEXT_DETECTOR=${TEXT_DETECTOR:-rapidocr}
TEXT_SCORE_THRESHOLD=${TEXT_SCORE_THRESHOLD:-0.02}
MOTION_ESTIMATOR=${MOTION_ESTIMATOR:-dis}
LOW_MOTION_SCORE_THRESHOLD=${LOW_MOTION_SCORE_THRESHOLD:-1.5}
HIGH_MOTION_SCORE_THRESHOLD=${HIGH_MOTION_SCORE_THRESHOLD:-25}
CUT_INSIDE_THRESHOLD=${CUT_INSIDE_THRESHOLD:-0.5}
CAPTIONER=${CAPTIONER:-attributes}
SUMMARIZER=${SUMMARIZER:-attributes}
