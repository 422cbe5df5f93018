#!/bin/sh
# Stage 2: score the clips in VIDEO_FOLDER (quality, text on screen, motion) and keep those that pass: train.jsonl in DATASET_FOLDER.
#   sh stage_2_filter_data.sh
#   VIDEO_FOLDER=~/clips TEXT_SCORE_THRESHOLD=0.05 N_JOBS=8 sh stage_2_filter_data.sh
#   WHERE="camera_motion like 'pan%'" EXCLUDE=marks.jsonl sh stage_2_filter_data.sh
# Bars, subtitles and logos are cropped away: a clip is scored, listed and exported within its crop box. CROP=0 disables this.
# VLM_QUESTIONS="overlays my_questions.txt" asks a vision-language model (VLM) these sets of questions about the clips that pass; the files hold the bounds, too.
#   VLM_QUESTIONS=overlays BASE_URL=http://localhost:8000/v1 IMAGE_CAPTION_MODEL=Qwen3-VL-8B sh stage_2_filter_data.sh
# AUDIO=1 measures the audio and drops clips without audible audio; SPEECH_AT_EDGES=0 also drops clips that begin or end mid-speech.
# DEDUP=1 keeps only the best clip of each near-duplicate group; with WHERE="same_view = ''" only one clip of each view.
# WHERE is a condition over all columns; EXCLUDE and INCLUDE are lists of clips, or the marks of a report; COLUMNS_FROM is an extra file whose columns
# WHERE can use.
# A score of your own takes one more line, before motion: see docs/add_a_score.md.
set -eu
stage=2 here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
. "$here/presets/settings.sh"
. "$here/presets/commands.sh"
. "$here/presets/bounds.sh"

# The clips of stage 1, or every video of another folder.
if [ -z "${VIDEO_FOLDER:-}" ] && [ -z "${VIDEO_METADATA_PATH:-}" ]; then VIDEO_METADATA_PATH=$DATASET_FOLDER/clips.jsonl; fi
VIDEO_FOLDER=${VIDEO_FOLDER:-$DATASET_FOLDER/train}
needs "${VIDEO_METADATA_PATH:-$VIDEO_FOLDER}" "run stage_1_video_cut.sh first, or set VIDEO_FOLDER to a folder of clips"
remind "$DATASET_FOLDER/marks.jsonl" EXCLUDE "${EXCLUDE:-}${INCLUDE:-}"
rules=$(PYTHONPATH=$here "$PYTHON" -m utils.pipeline.existing "$DATASET_FOLDER") || fail "$DATASET_FOLDER cannot be read"
case $rules in whole) CROP=${CROP:-0} ;; *) CROP=${CROP:-1} ;; esac
if [ "$CROP" = 0 ] || [ "$rules" = 0.3 ]; then TEXT_SCORE_THRESHOLD=${TEXT_SCORE_THRESHOLD:-0.02}; fi # by default overlaid text decides
TEXT_SCORE_THRESHOLD=${TEXT_SCORE_THRESHOLD:-none}
model_ranks=${NUM_PROCESSES:-$GPUS} # of scripts whose model runs on a GPU
if [ -n "${BASE_URL:-}${ENGINE_SERVER:-}" ]; then vlm_engine=openai; elif [ "$CAPTIONER" = attributes ]; then vlm_engine=transformers; else vlm_engine=$CAPTIONER; fi
if [ "$TEXT_DETECTOR" = easyocr ]; then text_ranks=$model_ranks; else text_ranks=$cpu_ranks; fi

on_clips() { # runner, script, flags
    how=$1 script=$2
    shift 2
    $how "$script" --video_folder="$VIDEO_FOLDER" ${VIDEO_METADATA_PATH:+--video_metadata_path="$VIDEO_METADATA_PATH"} "$@"
}

score() { # ranks, script, column to filter by, its bounds, flags of the script
    ranks=$1 script=$2 column=$3 low=$4 high=$5
    shift 5
    on_clips "run_ranks $ranks" "$script" --saved_path="$DATASET_FOLDER/$column.jsonl" ${N_JOBS:+--n_jobs="$N_JOBS"} "$@"
    bound "$column.jsonl" "$column" "$low" "$high"
}

find_crops() {
    on_clips "run_ranks $cpu_ranks" compute_crop_box.py --saved_path="$DATASET_FOLDER/crop_box.jsonl" ${N_JOBS:+--n_jobs="$N_JOBS"} ${VIDEO_READER:+--video_reader="$VIDEO_READER"}
    crop_boxes=$DATASET_FOLDER/crop_box.jsonl
}

# Crop boxes come first: every other score is measured inside the crop.
crop_boxes=
if [ "$CROP" != 0 ] && [ "$rules" != 0.3 ]; then
    find_crops
    bound crop_box.jsonl crop_share "$MIN_CROP_SHARE" none
    bound crop_box.jsonl crop_short_side "$MIN_SHORT_SIDE" none
    bound crop_box.jsonl overlay_text_share none "$OVERLAY_TEXT_THRESHOLD"
    MIN_SHORT_SIDE=0
fi
scored_in=$crop_boxes # the crop boxes that every other score is measured in
score "$model_ranks" compute_video_frame_quality.py "$QUALITY_SCORE" "$QUALITY_THRESHOLD" none --metrics $METRICS ${scored_in:+--crop_boxes="$scored_in"} ${QUALITY_MODEL_PATH:+--model_path="$QUALITY_MODEL_PATH"} ${VIDEO_READER:+--video_reader="$VIDEO_READER"}
case " $METRICS " in *" NSFWScore "*) bound "$QUALITY_SCORE.jsonl" nsfw_score none "${NSFW_THRESHOLD:-0.8}" ;; esac
if [ "$CROP" != 0 ] && [ "$rules" = 0.3 ]; then # where text alone was measured inside the crop
    find_crops
    bound crop_box.jsonl crop_share none none # no bound: the filter adds its columns
fi
if [ "$TEXT_SCORE_THRESHOLD" != none ]; then
    score "$text_ranks" compute_text_score.py text_score none "$TEXT_SCORE_THRESHOLD" ${crop_boxes:+--crop_boxes="$crop_boxes"} --text_detector="$TEXT_DETECTOR" ${TEXT_MODEL_PATH:+--model_path="$TEXT_MODEL_PATH"} ${VIDEO_READER:+--video_reader="$VIDEO_READER"}
fi
if [ "${AUDIO:-0}" != 0 ]; then
    on_clips "run_ranks $cpu_ranks" compute_audio_score.py --saved_path="$DATASET_FOLDER/audio.jsonl" ${N_JOBS:+--n_jobs="$N_JOBS"}
    bound audio.jsonl loudness "${LOUDNESS_THRESHOLD:--40}" none # without audio it is -70
    bound audio.jsonl silent_share none "${SILENT_SHARE_THRESHOLD:-0.5}"
    bound audio.jsonl clipping_share none "${CLIPPING_SHARE_THRESHOLD:-0.01}"
    bound audio.jsonl speech_share "${SPEECH_SHARE_THRESHOLD:-none}" none
    if [ "${SPEECH_AT_EDGES:-1}" = 0 ]; then
        bound audio.jsonl speech_at_start none 0
        bound audio.jsonl speech_at_end none 0
    fi
fi
# The most expensive score is computed only for clips that pass the earlier ones.
with_bounds score "$cpu_ranks" compute_motion_score.py motion_score "$LOW_MOTION_SCORE_THRESHOLD" "$HIGH_MOTION_SCORE_THRESHOLD" ${scored_in:+--crop_boxes="$scored_in"} --motion_estimator="$MOTION_ESTIMATOR" ${CUT_INSIDE:+--cut_inside="$CUT_INSIDE"}
bound motion_score.jsonl "activity|motion_score" "$ACTIVITY_THRESHOLD" none # farneback, and versions before 0.4, have no activity
if [ "$MOTION_ESTIMATOR" = dis ]; then bound motion_score.jsonl cut_inside none "$CUT_INSIDE_THRESHOLD"; fi # farneback has no such column
# What no formula measures: questions to a vision-language model, only about clips that pass the cheaper scores.
for questions in ${VLM_QUESTIONS:-}; do
    file=vlm_$(basename "${questions%.*}").jsonl
    with_bounds on_clips "ask $vlm_engine" compute_vlm_score.py --saved_path="$DATASET_FOLDER/$file" --questions="$questions" --captioner="$vlm_engine" \
        ${IMAGE_CAPTION_MODEL:+--image_caption_model_name="$IMAGE_CAPTION_MODEL"} ${VLM_TOGETHER:+--together} ${crop_boxes:+--crop_boxes="$crop_boxes"} ${VIDEO_READER:+--video_reader="$VIDEO_READER"} \
        ${SKIP_SIGHT_CHECK:+--skip_sight_check}
    listed=$(PYTHONPATH=$here "$PYTHON" -m tools.question_bounds "$questions")
    while read -r column low high; do if [ -n "$column" ]; then bound "$file" "$column" "$low" "$high"; fi; done <<END
$listed
END
done
# Last, so that the best copy is chosen among clips that pass.
if [ "${DEDUP:-0}" != 0 ]; then
    with_bounds on_clips "run_ranks $cpu_ranks" compute_duplicates.py --saved_path="$DATASET_FOLDER/duplicates.jsonl" ${N_JOBS:+--n_jobs="$N_JOBS"}
    bound duplicates.jsonl duplicate_rank none 0
fi

with_bounds on_clips run filter_videos_by_motion_score.py --saved_path="$DATASET_FOLDER/train.jsonl" --min_seconds="$MIN_SECONDS" --max_seconds="$MAX_SECONDS" --min_short_side="$MIN_SHORT_SIDE" --plot="$DATASET_FOLDER/scores.png" ${WHERE:+--where="$WHERE"} \
    ${COLUMNS_FROM:+--columns_from="$COLUMNS_FROM"} ${EXCLUDE:+--exclude="$EXCLUDE"} ${INCLUDE:+--include="$INCLUDE"}

# The set lists what was scored: a clip scored within a crop box is listed as its cropped file.
if [ -n "$scored_in" ] || is_there "$DATASET_FOLDER/cropped.jsonl"; then
    run_ranks "$cpu_ranks" crop_clips.py --video_folder="$VIDEO_FOLDER" --video_metadata_path="$DATASET_FOLDER/train.jsonl" --saved_path="$DATASET_FOLDER/cropped.jsonl" ${N_JOBS:+--n_jobs="$N_JOBS"}
fi

report "$VIDEO_FOLDER" "${VIDEO_METADATA_PATH:-}"
why="no clip passed; $DATASET_FOLDER/dropped.jsonl gives the reasons, and the table above counts the clips dropped by each bound"
if ! [ -s "$DATASET_FOLDER/dropped.jsonl" ]; then why="there are no clips in ${VIDEO_METADATA_PATH:-$VIDEO_FOLDER}"; fi
must_hold "$DATASET_FOLDER/train.jsonl" "$why"
