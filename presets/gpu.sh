# The full system, for NVIDIA GPUs: LAION's aesthetic predictor, EasyOCR, LLaVA-1.6 and a language model. Weights come from the hub (HF_ENDPOINT).
METRICS=${METRICS:-AestheticScore}
QUALITY_SCORE=${QUALITY_SCORE:-aesthetic_score} # column of METRICS to filter by; its file has the same name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-4}
TEXT_DETECTOR=${TEXT_DETECTOR:-easyocr}
TEXT_SCORE_THRESHOLD=${TEXT_SCORE_THRESHOLD:-0.02}
if [ -z "${ENGINE:-}" ]; then
    if [ -x "$(dirname -- "$PYTHON")/vllm" ]; then ENGINE=vllm; else ENGINE=transformers; fi
fi
CAPTIONER=${CAPTIONER:-$ENGINE}
SUMMARIZER=${SUMMARIZER:-$ENGINE}
BATCH_SIZE=${BATCH_SIZE:-8} # for transformers; vLLM batches on its own
IMAGE_CAPTION_MODEL=${IMAGE_CAPTION_MODEL:-llava-v1.6-vicuna-7b}
SUMMARY_MODEL=${SUMMARY_MODEL:-Qwen2.5-7B-Instruct}
