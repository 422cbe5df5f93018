# Sourced by the stage scripts, which set $here: where the data lies, which Python runs, and the preset.
DATASET_FOLDER=${DATASET_FOLDER:-$here/datasets/panda_70m}
if [ -z "${PYTHON:-}" ]; then
    if [ -x "$here/.venv/bin/python" ]; then PYTHON=$here/.venv/bin/python; else PYTHON=python3; fi
fi
export MIN_SECONDS="${MIN_SECONDS:-3}" MAX_SECONDS="${MAX_SECONDS:-10}"

PRESET=${PRESET:-auto}
if [ "$PRESET" = auto ]; then
    PRESET=embedded
    echo "PRESET=auto takes embedded: nothing to download, no GPU needed"
fi
if [ ! -f "$here/presets/$PRESET.sh" ]; then
    echo "PRESET=$PRESET: there is no presets/$PRESET.sh" >&2
    exit 2
fi
. "$here/presets/$PRESET.sh"

# Print a command, then run it with the flags that hold for all scripts; a failure ends the stage.
run() {
    script=$1
    shift
    set -- "$PYTHON" "$here/$script" "$@" ${OVERWRITE:+--overwrite} ${RETRY_ERRORS:+--retry_errors}
    echo "+ $*"
    "$@"
}
