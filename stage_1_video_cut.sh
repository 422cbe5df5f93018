#!/bin/sh
# Stage 1: find the shots of the videos in VIDEO_FOLDER and cut them into clips of 3 to 10 seconds in OUTPUT_FOLDER.
#   sh stage_1_video_cut.sh
#   VIDEO_FOLDER=~/films MAX_SECONDS=5 N_JOBS=8 sh stage_1_video_cut.sh
# PREFER_PAUSES=1 splits long shots at pauses in speech, for models that learn audio.
# REMOVE_ORPHANS=1 also removes clips of earlier runs whose source was deleted, renamed or is now cut differently.
set -eu
stage=1 here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/presets/settings.sh"
. "$here/presets/commands.sh"

VIDEO_FOLDER=${VIDEO_FOLDER:-$DATASET_FOLDER/before_vcut}
OUTPUT_FOLDER=${OUTPUT_FOLDER:-$DATASET_FOLDER/train}
needs "$VIDEO_FOLDER" "put videos into it, or set VIDEO_FOLDER"

run_ranks "$cpu_ranks" cutscene_detect.py --video_folder="$VIDEO_FOLDER" --saved_path="$DATASET_FOLDER/scenes.jsonl" \
    ${DETECTOR:+--detector="$DETECTOR"} ${CUTSCENE_THRESHOLD:+--cutscene_threshold="$CUTSCENE_THRESHOLD"} ${N_JOBS:+--n_jobs="$N_JOBS"}

if [ "${PREFER_PAUSES:-0}" = 0 ]; then pauses=; else pauses=--prefer_pauses; fi
run_ranks "$cpu_ranks" video_splitting.py --video_metadata_path="$DATASET_FOLDER/scenes.jsonl" --video_folder="$VIDEO_FOLDER" \
    --output_folder="$OUTPUT_FOLDER" --saved_path="$DATASET_FOLDER/clips.jsonl" --min_seconds="$MIN_SECONDS" --max_seconds="$MAX_SECONDS" \
    ${ENCODER:+--encoder="$ENCODER"} ${LONG_SHOTS:+--long_shots="$LONG_SHOTS"} $pauses \
    ${RESOLUTION_THRESHOLD:+--resolution_threshold="$RESOLUTION_THRESHOLD"} ${REMOVE_ORPHANS:+--remove_orphans} ${N_JOBS:+--n_jobs="$N_JOBS"}

report "$OUTPUT_FOLDER" "$DATASET_FOLDER/clips.jsonl"
why="$VIDEO_FOLDER gave no clip of $MIN_SECONDS to $MAX_SECONDS seconds"
if [ -s "$DATASET_FOLDER/scenes.errors.jsonl" ]; then
    why="$why; $DATASET_FOLDER/scenes.errors.jsonl names files that cannot be read"
elif [ ! -s "$DATASET_FOLDER/scenes.jsonl" ]; then
    why="there are no videos in $VIDEO_FOLDER, files with the ending of one, such as .mp4, .mov, .mkv or .webm"
fi
must_hold "$DATASET_FOLDER/clips.jsonl" "$why"
