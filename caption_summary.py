"""Turn the frame captions of each clip into one caption of the clip.

--summarizer attributes puts what was measured into one sentence, without a model; none takes a clip's only frame
caption as it is. Columns added: summary_model; summary_caption.

    python caption_summary.py --video_metadata_path frame_caption.jsonl --saved_path summary_caption.jsonl
"""

from functools import partial

from utils.arguments import (
    UsageError,
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    run,
    script_parser,
)
from utils.attributes_caption import describe
from utils.row_processing import CLIP_COLUMNS, input_rows, process_rows


def summary_columns(row: dict, summarizer: str) -> dict:
    """The columns of one clip."""
    if summarizer == "attributes":
        return {"summary_model": "attributes", "summary_caption": describe(row["attributes"])}
    return {"summary_model": row.get("image_caption_model", "none"), "summary_caption": row["sampled_frame_caption"][0]}


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="summary_caption.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--summarizer",
        choices=["attributes", "none"],
        default="attributes",
        help="how one caption is made of those of the frames",
    )
    args = parser.parse_args()
    if not args.video_metadata_path:
        parser.error("--video_metadata_path is missing: the rows of caption_video_frame.py")
    rows = input_rows(args)
    for row in rows:
        captions = row.get("sampled_frame_caption")
        if not isinstance(captions, list) or (args.summarizer == "none" and len(captions) != 1):
            raise UsageError(
                f"{args.video_metadata_path}: {row['video_path']}: sampled_frame_caption is {captions!r}, not a list of "
                + (
                    "one text, which --summarizer none needs"
                    if args.summarizer == "none"
                    else "texts; make it with caption_video_frame.py"
                )
            )
        if args.summarizer == "attributes" and not isinstance(row.get("attributes"), dict):
            raise UsageError(
                f"{args.video_metadata_path}: {row['video_path']} has no attributes; caption it with --captioner attributes"
            )
    depends_on = (*CLIP_COLUMNS, "sampled_frame_caption", "attributes")
    settings = {"summarizer": args.summarizer, "version": 1}
    process_rows(
        args,
        "summary",
        rows,
        settings,
        partial(summary_columns, summarizer=args.summarizer),
        depends_on=depends_on,
        done_word="summarized",
    )


if __name__ == "__main__":
    run(main)
