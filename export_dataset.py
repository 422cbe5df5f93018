"""Write the training set as one JSON list: [{"file_path": ..., "text": ..., "type": "video"}, ...], `file_path`
relative to the video folder.

    python export_dataset.py --video_metadata_path summary_caption.jsonl --video_folder datasets/panda_70m/train \\
        --saved_path datasets/panda_70m/train_panda_70m.json
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import json
import os

from utils.cli import add_input_arguments, file_to_write, run, script_parser
from utils.columns import TEXT
from utils.errors import UsageError
from utils.pipeline.process import input_rows
from utils.rows import atomic_write, refuse_overwriting
from utils.storage import is_url
from utils.video_utils import present_in
from utils.working_copies import local_path


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    parser.add_argument("--caption_column", default="summary_caption", help="column of the list that holds the text")
    parser.add_argument(
        "--saved_path", type=file_to_write, default="train_panda_70m.json", help="the list (JSON), written whole"
    )
    for flag in ("--overwrite", "--retry_errors"):
        parser.add_argument(flag, action="store_true", help="no effect: the list is written whole at each run")
    args = parser.parse_args()
    if not args.video_metadata_path:
        parser.error("--video_metadata_path is missing: the rows with the captions")
    refuse_overwriting({"--saved_path": args.saved_path}, {"--video_metadata_path": args.video_metadata_path})
    needed = {args.caption_column: TEXT}
    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column, needed)
    for row in rows:
        path = row["video_path"]
        if args.video_folder and (os.path.isabs(path) or is_url(path) or path.startswith("../")):
            raise UsageError(
                f"{args.video_metadata_path}: {row['video_path']} is outside --video_folder {args.video_folder}; "
                "give the folder that holds all videos"
            )
    entries, missing, is_there = [], 0, present_in(args.video_folder)
    for row in rows:
        if args.video_folder and not is_there(row["video_path"]):
            missing += 1
        else:
            entries.append({"file_path": row["video_path"], "text": row[args.caption_column], "type": "video"})
    saved_path = local_path(args.saved_path)
    saved_path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(entries, ensure_ascii=False, indent=2) + "\n"
    with atomic_write(saved_path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    print(
        f"export: {len(rows):,} rows in = {len(entries):,} written + {missing:,} errors (no such file) + 0 filtered -> {args.saved_path}"
    )


if __name__ == "__main__":
    run(main)
