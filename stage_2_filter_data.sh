#!/bin/sh
# Stage 2: score the clips in VIDEO_FOLDER (quality, text on screen, motion) and keep those that pass: train.jsonl in DATASET_FOLDER.
#   sh stage_2_filter_data.sh
#   VIDEO_FOLDER=~/clips TEXT_SCORE_THRESHOLD=0.05 N_JOBS=8 sh stage_2_filter_data.sh
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/presets/choose.sh"

# The clips of stage 1, or of another folder whatever is in it.
if [ -z "${VIDEO_FOLDER:-}" ] && [ -z "${VIDEO_METADATA_PATH:-}" ]; then VIDEO_METADATA_PATH=$DATASET_FOLDER/clips.jsonl; fi
VIDEO_FOLDER=${VIDEO_FOLDER:-$DATASET_FOLDER/train}

score() { # a script, the file for its rows, its flags; on all clips
    script=$1 saved_path=$2
    shift 2
    case $script in # those with a model that a GPU runs take all GPUs
    compute_video_frame_quality.py) ranks=${NUM_PROCESSES:-$GPUS} ;;
    compute_text_score.py) if [ "$TEXT_DETECTOR" = easyocr ]; then ranks=${NUM_PROCESSES:-$GPUS}; else ranks=1; fi ;;
    *) ranks=1 ;;
    esac
    run_ranks "$ranks" "$script" --video_folder="$VIDEO_FOLDER" ${VIDEO_METADATA_PATH:+--video_metadata_path="$VIDEO_METADATA_PATH"} \
        --saved_path="$saved_path" "$@"
}

score compute_video_frame_quality.py "$DATASET_FOLDER/$QUALITY_SCORE.jsonl" --metrics $METRICS ${QUALITY_MODEL_PATH:+--model_path="$QUALITY_MODEL_PATH"} ${N_JOBS:+--n_jobs="$N_JOBS"}

score compute_text_score.py "$DATASET_FOLDER/text_score.jsonl" --text_detector="$TEXT_DETECTOR" ${TEXT_MODEL_PATH:+--model_path="$TEXT_MODEL_PATH"} ${N_JOBS:+--n_jobs="$N_JOBS"}

score compute_motion_score.py "$DATASET_FOLDER/motion_score.jsonl" --motion_estimator="$MOTION_ESTIMATOR" ${N_JOBS:+--n_jobs="$N_JOBS"} \
    --filter "$DATASET_FOLDER/$QUALITY_SCORE.jsonl" "$QUALITY_SCORE" "$QUALITY_THRESHOLD" none \
    --text_score_metadata_path="$DATASET_FOLDER/text_score.jsonl" --text_score_threshold="$TEXT_SCORE_THRESHOLD"

score filter_videos_by_motion_score.py "$DATASET_FOLDER/train.jsonl" \
    --filter "$DATASET_FOLDER/$QUALITY_SCORE.jsonl" "$QUALITY_SCORE" "$QUALITY_THRESHOLD" none \
    --text_score_metadata_path="$DATASET_FOLDER/text_score.jsonl" --text_score_threshold="$TEXT_SCORE_THRESHOLD" \
    --motion_score_metadata_path="$DATASET_FOLDER/motion_score.jsonl" \
    --filter "$DATASET_FOLDER/motion_score.jsonl" cut_inside none "$CUT_INSIDE_THRESHOLD" \
    --low_motion_score_threshold="$LOW_MOTION_SCORE_THRESHOLD" --high_motion_score_threshold="$HIGH_MOTION_SCORE_THRESHOLD" \
    --plot="$DATASET_FOLDER/scores.png"
