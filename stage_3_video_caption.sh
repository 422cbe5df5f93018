#!/bin/sh
# Stage 3: caption the clips that passed stage 2 and write the training set: train_panda_70m.json in DATASET_FOLDER.
#   sh stage_3_video_caption.sh
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/presets/choose.sh"

VIDEO_FOLDER=${VIDEO_FOLDER:-$DATASET_FOLDER/train}

run caption_video_frame.py --video_folder="$VIDEO_FOLDER" --video_metadata_path="${VIDEO_METADATA_PATH:-$DATASET_FOLDER/train.jsonl}" \
    --saved_path="$DATASET_FOLDER/frame_caption.jsonl" --captioner="$CAPTIONER" ${N_JOBS:+--n_jobs="$N_JOBS"}

run caption_summary.py --video_metadata_path="$DATASET_FOLDER/frame_caption.jsonl" \
    --saved_path="$DATASET_FOLDER/summary_caption.jsonl" --summarizer="$SUMMARIZER"

run export_dataset.py --video_folder="$VIDEO_FOLDER" --video_metadata_path="$DATASET_FOLDER/summary_caption.jsonl" \
    --saved_path="$DATASET_FOLDER/train_panda_70m.json"
