#!/bin/sh
# Stage 3: caption the clips that passed stage 2 and write the training set, train_panda_70m.json in DATASET_FOLDER.
#   sh stage_3_video_caption.sh
#   CAPTIONER=vllm IMAGE_CAPTION_MODEL=Qwen2.5-VL-7B SUMMARIZER=none CAPTION_UNIT=clip FRAME_SAMPLE_METHOD=uniform NUM_SAMPLED_FRAMES=6 sh stage_3_video_caption.sh
#   ENGINE_SERVER=vllm IMAGE_CAPTION_MODEL=llava-v1.6-vicuna-7b SUMMARY_MODEL=Qwen2.5-7B-Instruct sh stage_3_video_caption.sh
#   FORMAT=musubi MODEL=wan2.1 sh stage_3_video_caption.sh
# FORMAT and MODEL also export the set in that trainer's layout, with clips encoded for that model, to EXPORT_FOLDER (docs/export.md).
# ENGINE_SERVER (vllm, sglang, lmdeploy, transformers) starts that server for each model in turn, and stops it.
set -eu
stage=3 here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
if [ -n "${ENGINE_SERVER:-}" ]; then CAPTIONER=${CAPTIONER:-openai} SUMMARIZER=${SUMMARIZER:-openai}; fi
. "$here/presets/settings.sh"
. "$here/presets/commands.sh"

VIDEO_FOLDER=${VIDEO_FOLDER:-$DATASET_FOLDER/train}
needs "${VIDEO_METADATA_PATH:-$DATASET_FOLDER/train.jsonl}" "run stage_2_filter_data.sh first, or set VIDEO_METADATA_PATH"
needs "$VIDEO_FOLDER" "set VIDEO_FOLDER to the folder of clips that stage 2 read"

remind "$DATASET_FOLDER/captions.jsonl" CAPTIONS_FROM "${CAPTIONS_FROM:-}"

cropped=$DATASET_FOLDER/cropped.jsonl # of stage 2: the set lists cropped clips as cropped files
if ! is_there "$cropped"; then cropped=; fi

export_set() { # list, further flags
    list=$1
    shift
    run export_dataset.py --video_folder="$VIDEO_FOLDER" --video_metadata_path="$list" ${cropped:+--columns_from="$cropped"} --format="${FORMAT:-easyanimate}" ${MODEL:+--model="$MODEL"} \
        ${MEDIA:+--media="$MEDIA"} ${VAL_SHARE:+--val_share="$VAL_SHARE"} ${MAX_UPSCALE:+--max_upscale="$MAX_UPSCALE"} ${EXPORT_AUDIO:+--audio="$EXPORT_AUDIO"} \
        ${EXPORT_BATCH_SIZE:+--batch_size="$EXPORT_BATCH_SIZE"} ${EXPORT_CAPTION:+--caption="$EXPORT_CAPTION"} ${FIRST_FRAMES:+--first_frames} \
        ${MAX_PER_SOURCE:+--max_per_source="$MAX_PER_SOURCE"} ${BALANCE:+--balance="$BALANCE"} ${N_JOBS:+--n_jobs="$N_JOBS"} "$@"
}

# Check the export plan first: a wrong FORMAT, or clips that the model cannot use, would waste hours of captioning.
if [ -n "${FORMAT:-}${MODEL:-}" ]; then export_set "${VIDEO_METADATA_PATH:-$DATASET_FOLDER/train.jsonl}" --caption_column=video_path --dry_run=table; fi

ask "$CAPTIONER" caption_video_frame.py --video_folder="$VIDEO_FOLDER" --video_metadata_path="${VIDEO_METADATA_PATH:-$DATASET_FOLDER/train.jsonl}" \
    --saved_path="$DATASET_FOLDER/frame_caption.jsonl" --captioner="$CAPTIONER" ${IMAGE_CAPTION_MODEL:+--image_caption_model_name="$IMAGE_CAPTION_MODEL"} \
    ${IMAGE_CAPTION_PROMPT:+--image_caption_prompt="$IMAGE_CAPTION_PROMPT"} ${CAPTION_UNIT:+--caption_unit="$CAPTION_UNIT"} ${STYLES:+--styles="$STYLES"} ${WITH_AUDIO:+--with_audio} \
    ${FRAME_SAMPLE_METHOD:+--frame_sample_method="$FRAME_SAMPLE_METHOD"} ${NUM_SAMPLED_FRAMES:+--num_sampled_frames="$NUM_SAMPLED_FRAMES"} \
    ${VIDEO_READER:+--video_reader="$VIDEO_READER"} ${SKIP_SIGHT_CHECK:+--skip_sight_check}

ask "$SUMMARIZER" caption_summary.py --video_metadata_path="$DATASET_FOLDER/frame_caption.jsonl" \
    --saved_path="$DATASET_FOLDER/summary_caption.jsonl" --summarizer="$SUMMARIZER" ${CAPTIONS_FROM:+--captions_from="$CAPTIONS_FROM"} ${SUMMARY_MODEL:+--summary_model_name="$SUMMARY_MODEL"} \
    ${SUMMARY_PROMPT:+--summary_prompt="$SUMMARY_PROMPT"} ${REWRITE:+--rewrite="$REWRITE"} ${MAX_WORDS:+--max_words="$MAX_WORDS"} \
    ${REMOVE_QUOTES:+--remove_quotes} ${APPEND_ATTRIBUTES:+--append_attributes} \
    ${TRIGGER_WORD:+--trigger_word="$TRIGGER_WORD"} ${CAPTION_PREFIX:+--caption_prefix="$CAPTION_PREFIX"} ${CAPTION_SUFFIX:+--caption_suffix="$CAPTION_SUFFIX"}

run export_dataset.py --video_folder="$VIDEO_FOLDER" --video_metadata_path="$DATASET_FOLDER/summary_caption.jsonl" \
    ${cropped:+--columns_from="$cropped" --columns_from="${VIDEO_METADATA_PATH:-$DATASET_FOLDER/train.jsonl}"} \
    --saved_path="$DATASET_FOLDER/train_panda_70m.json"
if [ -n "${FORMAT:-}${MODEL:-}" ]; then
    export_set "$DATASET_FOLDER/summary_caption.jsonl" --columns_from="${VIDEO_METADATA_PATH:-$DATASET_FOLDER/train.jsonl}" \
        --export_folder="${EXPORT_FOLDER:-$DATASET_FOLDER/${FORMAT:-easyanimate}${MODEL:+-$MODEL}}"
fi

report "$VIDEO_FOLDER" ""
must_hold "$DATASET_FOLDER/summary_caption.jsonl" "no clip has a caption; the lines above name the files with errors"
