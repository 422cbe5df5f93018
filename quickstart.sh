#!/usr/bin/env bash
# From raw video to a captioned training set, on any machine with Python 3.10 to 3.13:
#   bash quickstart.sh           makes a sample video and runs the three stages on it
#   bash quickstart.sh FOLDER    runs them on the videos in FOLDER, which are read in place
# Both resume: a second run has nothing left to do.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # as `sh quickstart.sh`
set -euo pipefail
videos=
case ${1-} in
-h | --help)
    sed -n '2,/^\[/s/^# //p' "$0"
    exit
    ;;
esac
if [ $# -gt 1 ]; then
    echo "quickstart.sh takes one folder, not $#: settings are variables of the environment, MIN_SECONDS=2 bash quickstart.sh FOLDER" >&2
    exit 2
fi
if [ $# -gt 0 ]; then
    if [ ! -d "$1" ]; then
        echo "quickstart.sh: $1 is not a folder" >&2
        exit 2
    fi
    videos=$(cd -- "$1" && pwd)
fi
if [ -n "${VIDEO_FOLDER:-}" ]; then # stage 2 would take whole videos for clips
    echo "quickstart.sh: VIDEO_FOLDER is set, and the videos are an argument: unset it, and bash quickstart.sh FOLDER" >&2
    exit 2
fi
case ${DATASET_FOLDER:-/} in /* | *://*) ;; *) DATASET_FOLDER=$PWD/$DATASET_FOLDER ;; esac
given=$videos
cd "$(dirname "${BASH_SOURCE[0]}")"
. tools/setup_venv.sh requirements-embedded.lock
. presets/foreground.sh
export PYTHON PRESET=${PRESET:-embedded}
unset PYTHONDONTWRITEBYTECODE # some fifteen processes follow, each of which would compile all that it imports
early_report=${REPORT-} # of stages 1 and 2
"$PYTHON" -m tools.stage_settings 1 >/dev/null # a slip ends here, before the sample is made

if [ -n "$videos" ]; then
    # A checksum of the path keeps two folders of the same name from sharing a dataset.
    export DATASET_FOLDER=${DATASET_FOLDER:-$PWD/datasets/$(basename "$videos")-$(printf %s "$videos" | cksum | cut -d' ' -f1)}
else
    export DATASET_FOLDER=${DATASET_FOLDER:-$PWD/datasets/panda_70m}
    videos=$DATASET_FOLDER/before_vcut
    case $videos in *://*) ;; *) mkdir -p "$videos" ;; esac
    [ -e "$videos/sample.mp4" ] || run_child "$PYTHON" -m tools.sample_video "$videos/sample.mp4"
    early_report=0 # so short a film needs the last alone
fi
run_child env VIDEO_FOLDER="$videos" REPORT="$early_report" sh stage_1_video_cut.sh
run_child env REPORT="$early_report" sh stage_2_filter_data.sh
run_child sh stage_3_video_caption.sh
run_child "$PYTHON" -m tools.summary --dataset_folder="$DATASET_FOLDER"
run_child "$PYTHON" -m tools.next_steps --dataset_folder="$DATASET_FOLDER" ${given:+--videos="$given"}
