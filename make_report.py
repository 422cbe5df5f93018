"""Write a one-page report of a dataset: what was kept and why, thresholds as sliders, a gallery of the clips, marks.

    python make_report.py datasets/panda_70m                      # datasets/panda_70m/report.html
    python make_report.py datasets/a datasets/b --saved_path compare.html

The page opens from disk in any browser, offline. A slider on each score's histogram shows what another threshold
would keep, and the page prints the command that applies it. With two datasets it shows the clips that only one of them keeps.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import importlib
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from tools.stage_settings import carried
from utils.cli import add_worker_arguments, file_to_write, from_flags, run, script_parser
from utils.errors import UsageError
from utils.pipeline.ancestry import settings_of
from utils.pipeline.process import RunOptions
from utils.pipeline.row_list import open_rows, rows_in
from utils.pipeline.score import Column
from utils.report.dataset import Dataset, describe, matches
from utils.report.page import Blocks, write_page
from utils.report.thumbnails import FOLDER, make_thumbnails
from utils.rows import refuse_overwriting
from utils.startup import PROJECT
from utils.storage import exists, is_url
from utils.working_copies import local_path


def declared_columns() -> tuple[dict[str, Column], frozenset[str]]:
    """The columns of all scores, also of a user's own script, and those by which stage 2 may judge quality."""
    columns: dict[str, Column] = {}
    for path in sorted(Path(__file__).parent.glob("compute_*.py")):
        score = getattr(importlib.import_module(path.stem), "SCORE", None)
        columns |= score.columns if score else {}
    metrics = importlib.import_module("compute_video_frame_quality").METRICS.values()
    return columns, frozenset(metric.column for metric in metrics)


def absolute(path: str) -> str:
    """A path that a command can name wherever it is run."""
    return path if is_url(path) else os.path.abspath(path)


def list_of(folder: str) -> str | None:
    """The list that the clips of a dataset were chosen from, else that of stage 1; None where it was, or can only be, a folder of videos."""
    settings, clips = settings_of(f"{folder}/train.jsonl"), f"{folder}/clips.jsonl"
    listed = settings.get("list", "clips.jsonl") if settings else "clips.jsonl"
    if not isinstance(listed, str):
        return None
    path = listed if is_url(listed) or os.path.isabs(listed) else f"{folder}/{listed}"
    return path if exists(path) else clips if exists(clips) else None


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("dataset_folder", nargs="+", help="dataset root (a folder or URL); two are compared")
    parser.add_argument(
        "--saved_path", type=file_to_write, help="page to write (default: report.html in the first folder)"
    )
    parser.add_argument("--video_folder", help="folder of the clips (default: train/ in the dataset root)")
    parser.add_argument(
        "--video_metadata_path",
        help="list of the clips (default: the one that train.jsonl was filtered from, else clips.jsonl in the dataset root, else the videos in --video_folder)",
    )
    parser.add_argument("--no_thumbnails", action="store_true", help="skip the thumbnails")
    parser.add_argument("--overwrite", action="store_true", help="recompute the thumbnails")
    parser.add_argument("--retry_errors", action="store_true", help="retry failed thumbnails")
    add_worker_arguments(parser)
    args = parser.parse_args()
    folders = [folder.rstrip("/") or folder for folder in args.dataset_folder]
    if len(folders) > 2:
        raise UsageError(f"{len(folders)} folders given; pass one to show or two to compare")
    if len(folders) == 2 and (args.video_folder or args.video_metadata_path):
        raise UsageError("--video_folder and --video_metadata_path work with one dataset only")
    saved_path = args.saved_path or f"{folders[0]}/report.html"
    declared, quality = declared_columns()
    datasets = []
    for folder in folders:
        if not exists(folder):
            raise UsageError(f"{folder}: no such folder")
        listed = args.video_metadata_path or list_of(folder)
        videos = args.video_folder or f"{folder}/train"
        datasets.append(Dataset(absolute(folder), listed and absolute(listed), absolute(videos), declared, quality))
        refuse_overwriting({"--saved_path": saved_path}, {"the list of clips": listed})
    blocks, page_folder = Blocks(), os.path.dirname(saved_path) or "."
    shown: list[dict] = []
    clips: list[list[dict]] = []
    for dataset in datasets:
        options = from_flags(
            RunOptions,
            args,
            saved_path=f"{dataset.folder}/{FOLDER}/thumbnails.jsonl",
            video_folder=dataset.video_folder,
            ray=False,
        )
        if not args.no_thumbnails:
            rows = rows_in(dataset.listed) if dataset.listed else open_rows(dataset.video_folder, None)
            make_thumbnails(dataset.folder, rows, options)
        description, its_clips = describe(dataset, page_folder, blocks)
        shown.append(description)
        clips.append(its_clips)
    if len(shown) == 2:
        shown[0]["match"] = blocks.indices(matches(clips[0], clips[1]))
        shown[1]["match"] = blocks.indices(matches(clips[1], clips[0]))
    local_path(saved_path).parent.mkdir(parents=True, exist_ok=True)
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    variables = {stage: carried(stage, os.environ) for stage in "23"}
    about = {"version": 1, "made": made, "python": sys.executable, "project": PROJECT, "variables": variables}
    refresh = [
        f"{PROJECT}/make_report.py",
        *(dataset.folder for dataset in datasets),
        "--saved_path",
        absolute(saved_path),
    ]
    for flag in ("video_folder", "video_metadata_path"):
        refresh += [f"--{flag}", absolute(getattr(args, flag))] if getattr(args, flag) else []
    preset = {"PRESET": os.environ["PRESET"]} if os.environ.get("PRESET") else {}
    again = {"variables": variables["2"] | variables["3"] | preset, "words": refresh}
    write_page(saved_path, {**about, "refresh": again, "datasets": shown}, blocks)
    print(f"report: {' and '.join(f'{len(found):,} clips' for found in clips)} -> {saved_path}")


if __name__ == "__main__":
    run(main)
