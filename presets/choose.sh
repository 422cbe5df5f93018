# Sourced by the stage scripts, which set $here: the dataset root, the Python to run, the number of GPUs, and the preset.
DATASET_FOLDER=${DATASET_FOLDER:-$here/datasets/panda_70m}
if [ -z "${PYTHON:-}" ]; then
    if [ -x "$here/.venv/bin/python" ]; then PYTHON=$here/.venv/bin/python; else PYTHON=python3; fi
fi
export MIN_SECONDS="${MIN_SECONDS:-3}" MAX_SECONDS="${MAX_SECONDS:-10}"
if [ -z "${GPUS:-}" ]; then # those that CUDA_VISIBLE_DEVICES leaves
    GPUS=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || GPUS=0
    if [ "$GPUS" -gt 0 ] && [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then GPUS=$(echo "$CUDA_VISIBLE_DEVICES" | tr , '\n' | grep -c .); fi
fi

PRESET=${PRESET:-auto}
if [ "$PRESET" = auto ]; then
    if [ "$GPUS" -gt 0 ]; then
        PRESET=gpu
        echo "PRESET=auto takes gpu: there are $GPUS CUDA devices"
    else
        PRESET=embedded
        echo "PRESET=auto takes embedded: there is no CUDA device, and nothing is downloaded"
    fi
fi
if [ ! -f "$here/presets/$PRESET.sh" ] || [ "$PRESET" = choose ] || [ "$PRESET" = thresholds ]; then
    echo "PRESET=$PRESET: there is no presets/$PRESET.sh" >&2
    exit 2
fi
. "$here/presets/$PRESET.sh"
. "$here/presets/thresholds.sh"

# Print a command, then run it with the flags that all scripts share, with N ranks; a failure ends the stage.
run_ranks() { # how many, a script, its flags
    ranks=$1 script=$2
    shift 2
    if [ "$ranks" -le 1 ]; then set -- "$here/$script" "$@"; else set -- -m torch.distributed.run --standalone --nproc_per_node="$ranks" "$here/$script" "$@"; fi
    set -- "$PYTHON" "$@" ${OVERWRITE:+--overwrite} ${RETRY_ERRORS:+--retry_errors}
    echo "+ $*"
    "$@"
}

run() { # a script, its flags
    run_ranks 1 "$@"
}
