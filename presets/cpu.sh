# Small models on the CPU: LAION's aesthetic predictor, RapidOCR, and SmolVLM2 on four frames per clip at once, which leaves nothing to
# summarize. Weights (3 GB) come from the hub (HF_ENDPOINT).
METRICS=${METRICS:-AestheticScore}
QUALITY_SCORE=${QUALITY_SCORE:-aesthetic_score} # column of METRICS to filter by; its file has the same name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-4}
TEXT_DETECTOR=${TEXT_DETECTOR:-rapidocr}
TEXT_SCORE_THRESHOLD=${TEXT_SCORE_THRESHOLD:-0.02}
CAPTIONER=${CAPTIONER:-transformers}
IMAGE_CAPTION_MODEL=${IMAGE_CAPTION_MODEL:-SmolVLM2-500M}
CAPTION_UNIT=${CAPTION_UNIT:-clip}
FRAME_SAMPLE_METHOD=${FRAME_SAMPLE_METHOD:-uniform}
NUM_SAMPLED_FRAMES=${NUM_SAMPLED_FRAMES:-4}
SUMMARIZER=${SUMMARIZER:-none}
SUMMARY_MODEL=${SUMMARY_MODEL:-Qwen2.5-0.5B-Instruct} # if SUMMARIZER needs one
