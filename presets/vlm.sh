# One pass of a current vision-language model over the clip's timestamped frames, on an NVIDIA GPU; no separate summary model.
# Qwen3-VL-8B (Apache-2.0) takes 16.3 GiB in bfloat16, half of that in FP8, which needs compute capability 8.9 or higher (Ada, Hopper); scores as in gpu.
METRICS=${METRICS:-AestheticScore}
QUALITY_SCORE=${QUALITY_SCORE:-aesthetic_score} # column of METRICS to filter by; its file has the same name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-4}
TEXT_DETECTOR=${TEXT_DETECTOR:-easyocr}
if [ -z "${CAPTIONER:-}" ]; then
    if [ -x "$(dirname -- "$PYTHON")/vllm" ]; then CAPTIONER=vllm; else CAPTIONER=transformers; fi
fi
if [ "$CAPTIONER" = vllm ] && [ -z "${QUANTIZATION+set}" ]; then # an empty QUANTIZATION= keeps the weights unquantized
    case $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -V | head -n 1) in 8.9 | 9.* | 1[0-9].*) QUANTIZATION=fp8 ;; esac
fi
BATCH_SIZE=${BATCH_SIZE:-4} # for transformers; vLLM batches on its own
IMAGE_CAPTION_MODEL=${IMAGE_CAPTION_MODEL:-Qwen3-VL-8B}
IMAGE_CAPTION_PROMPT=${IMAGE_CAPTION_PROMPT:-clip_measured.txt} # clip.txt plus the measured clip length and camera motion
CAPTION_UNIT=${CAPTION_UNIT:-clip}
FRAME_SAMPLE_METHOD=${FRAME_SAMPLE_METHOD:-uniform}
NUM_SAMPLED_FRAMES=${NUM_SAMPLED_FRAMES:-8}
SUMMARIZER=${SUMMARIZER:-none}
