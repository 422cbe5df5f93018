# Sourced by the stage scripts, which set $here and $stage: checks settings from the environment and the arguments, and picks the rest: the
# Python interpreter, the number of GPUs, the preset with its models and thresholds.
. "$here/presets/foreground.sh"
if [ -z "${PYTHON:-}" ]; then
    if [ -x "$here/.venv/bin/python" ]; then PYTHON=$here/.venv/bin/python; else PYTHON=python3; fi
fi
command -v "$PYTHON" >/dev/null || {
    echo "PYTHON is '$PYTHON', not a program that is there" >&2
    exit 2
}
case " $* " in *" --help "* | *" -h "*) PYTHONPATH=$here exec "$PYTHON" -m tools.stage_settings "$stage" --help ;; esac
given=$(PYTHONPATH=$here "$PYTHON" -m tools.stage_settings "$stage" "$@") || exit $?
eval "$given" # NAME=VALUE of the arguments, quoted
DATASET_FOLDER=${DATASET_FOLDER:-$here/datasets/panda_70m}
export MIN_SECONDS="${MIN_SECONDS:-3}" MAX_SECONDS="${MAX_SECONDS:-10}"
if [ -z "${GPUS:-}" ]; then # those that CUDA_VISIBLE_DEVICES leaves
    GPUS=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || GPUS=0
    if [ "$GPUS" -gt 0 ] && [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then GPUS=$(echo "$CUDA_VISIBLE_DEVICES" | tr , '\n' | grep -c .); fi
fi

PRESET=${PRESET:-auto}
if [ "$PRESET" = auto ]; then
    if [ "$GPUS" -gt 0 ] && PYTHONPATH=$here "$PYTHON" -m tools.installed AestheticScore easyocr transformers 2>/dev/null; then
        PRESET=gpu
        echo "PRESET=auto selects gpu: $GPUS CUDA device(s) found"
    elif [ "$GPUS" -gt 0 ]; then
        PRESET=embedded
        echo "PRESET=auto selects embedded: $GPUS CUDA device(s) found, but the packages of the gpu preset are not installed; PRESET=gpu tells how to install them"
    else
        PRESET=embedded
        echo "PRESET=auto selects embedded: no CUDA device found; nothing is downloaded"
    fi
fi
quality=${METRICS:-}${QUALITY_SCORE:-}
. "$here/presets/$PRESET.sh"
. "$here/presets/thresholds.sh"
if [ -n "$quality" ]; then PYTHONPATH=$here "$PYTHON" -m tools.stage_settings quality "$QUALITY_SCORE" $METRICS || exit $?; fi
choices="$METRICS $TEXT_DETECTOR $CAPTIONER $SUMMARIZER ${LAUNCHER:-${RAY_ADDRESS:+ray}} ${VIDEO_READER:-} ${ENGINE_SERVER:+ENGINE_SERVER}"
if [ -n "${VLM_QUESTIONS:-}" ] && [ -z "${BASE_URL:-}${ENGINE_SERVER:-}" ] && [ "$CAPTIONER" = attributes ]; then choices="$choices transformers"; fi
if [ "${DEDUP:-0}" != 0 ]; then choices="$choices DEDUP"; fi
if [ -z "${LAUNCHER:-}${RAY_ADDRESS:-}" ] && [ "${NUM_PROCESSES:-1}${NNODES:-1}" != 11 ]; then choices="$choices torchrun"; fi
PYTHONPATH=$here "$PYTHON" -m tools.installed $choices || exit $?
# Without PyTorch nothing runs on a GPU, and there is no torchrun.
if [ "$GPUS" -gt 0 ] && ! "$PYTHON" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("torch"))'; then GPUS=0; fi
