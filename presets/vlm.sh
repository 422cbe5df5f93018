# One pass of a current vision-language model over the clip's frames with their times, for an NVIDIA GPU: no model of frames, no summary model.
# Qwen3-VL-8B (Apache-2.0) takes 16.3 GiB in bfloat16, half in FP8, which cards from compute capability 8.9 on (Ada, Hopper) have; scores as in gpu.
METRICS=${METRICS:-AestheticScore}
QUALITY_SCORE=${QUALITY_SCORE:-aesthetic_score} # the column that decides, of those that METRICS give; its file has its name
QUALITY_THRESHOLD=${QUALITY_THRESHOLD:-4}
TEXT_DETECTOR=${TEXT_DETECTOR:-easyocr}
if [ -z "${CAPTIONER:-}" ]; then
    if [ -x "$(dirname -- "$PYTHON")/vllm" ]; then CAPTIONER=vllm; else CAPTIONER=transformers; fi
fi
if [ "$CAPTIONER" = vllm ] && [ -z "${QUANTIZATION+set}" ]; then # QUANTIZATION= keeps the weights as they are
    case $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -V | head -n 1) in 8.9 | 9.* | 1[0-9].*) QUANTIZATION=fp8 ;; esac
fi
BATCH_SIZE=${BATCH_SIZE:-4} # of transformers; vLLM makes its own
IMAGE_CAPTION_MODEL=${IMAGE_CAPTION_MODEL:-Qwen3-VL-8B}
IMAGE_CAPTION_PROMPT=${IMAGE_CAPTION_PROMPT:-clip_measured.txt} # clip.txt with the clip's length and its camera as measured
CAPTION_UNIT=${CAPTION_UNIT:-clip}
FRAME_SAMPLE_METHOD=${FRAME_SAMPLE_METHOD:-uniform}
NUM_SAMPLED_FRAMES=${NUM_SAMPLED_FRAMES:-8}
SUMMARIZER=${SUMMARIZER:-none}
