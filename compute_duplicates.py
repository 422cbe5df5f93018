"""Find copies among clips: re-encoded, resized, retimed, recoloured, with a small logo or bars, or shortened.

Two clips are copies if their frames match in order and in time for most of the shorter one. Other moments of the same view (a talk, a fixed
camera, the next piece of a shot) are not copies: they are reported and kept.

Columns added: duplicate_group, the path of the best copy, which is kept; duplicate_of, the same path for the other copies, "" for the
kept one; duplicate_similarity, the share (0–1) of the shorter one's frames found in the other; duplicate_rank, 0 for the kept clip,
1, 2, ... for its copies, best first; same_view, the path of the best clip that shows the same view, "" for that clip itself, so that
--where "same_view = ''" keeps one clip of each view.

    python compute_duplicates.py --video_folder datasets/panda_70m/train --saved_path duplicates.jsonl
    python compute_duplicates.py --video_metadata_path clips.jsonl --video_folder CLIPS --columns_from technical_score.jsonl
    python filter_videos_by_motion_score.py --video_metadata_path clips.jsonl --filter duplicates.jsonl duplicate_rank none 0

Hashes and thumbnails of each clip are stored beside the result, in <name>.hashes.jsonl, which a rerun resumes; the groups are recomputed
on every run. A hash file started before 0.4 has no thumbnails and keeps its old rule: clips of the same view are duplicates, and there is no
same_view. With --filter and the like, only clips that pass are searched for duplicates.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.util import find_spec

import numpy as np

from utils.cli import add_filter_arguments, between, filters_of, from_flags, row_parser, run
from utils.errors import UsageError
from utils.models.embeddings import embedded_paths, read_embeddings
from utils.pipeline.ancestry import setting_of_existing
from utils.pipeline.filters import passing_rows
from utils.pipeline.process import RunOptions, process_rows
from utils.pipeline.result_file import errors_of, write_whole
from utils.pipeline.row_list import open_rows, with_columns
from utils.pipeline.score import Column, Score
from utils.rows import read_rows
from utils.scoring.bars import bars, inside
from utils.scoring.copies import are_copies, packed, thumbnail_times, thumbnails_of, unpacked
from utils.scoring.near_duplicates import MIN_SHARE, Clips, alike_embeddings, hashed_times, hashes_of
from utils.storage import exists
from utils.video.geometry import frame_to_array
from utils.video.opening import decode, open_video, time_base_of
from utils.video.sampling import look_at_frames
from utils.video.timing import packet_times
from utils.video_utils import locate, relative_to_folder
from utils.workers.ranks import Ranks
from utils.working_copies import local_path

LOOKED_AT = 256  # pixels of a frame's sides, whatever its shape: hashes are of squares
BEST_BY = ("aesthetic_score", "technical_score")  # of these the first that there is
SCORE = Score(
    "duplicates",
    "duplicates.jsonl",
    {
        "duplicate_group": Column("path of the clip that stays for this one"),
        "duplicate_of": Column('the same where it is another one, else ""'),
        "duplicate_similarity": Column("share of the shorter clip's frames that are in the other", 0, 1),
        "duplicate_rank": Column("0 for the clip that stays, 1, 2, … for its copies", 0, passes=(None, 0)),
        "same_view": Column('path of the best clip that shows the same view, "" for that one'),
    },
    stills=False,
)


def clip_hashes(row: dict, video_folder: str | None, with_thumbnails: bool = True) -> dict:
    """The hashes of one clip's frames, at fixed times from its start, and its thumbnails."""
    path = locate(row["video_path"], video_folder)
    with open_video(path) as (container, stream):
        found = packet_times(container, stream)
        times = np.array([f.pts for f in decode(container, stream)]) if found is None else found[0]
        seconds = (times - times[0]) * float(time_base_of(stream))
    duration = float(seconds[-1]) * len(seconds) / max(1, len(seconds) - 1)

    def frames_of(wanted: np.ndarray) -> np.ndarray:
        return np.searchsorted(seconds, wanted - 1e-6).clip(0, len(seconds) - 1)

    hashed = np.unique(frames_of(hashed_times(duration)))
    shown = frames_of(thumbnail_times(duration)) if with_thumbnails else hashed
    numbers, _, looks = look_at_frames(
        path,
        lambda _: np.union1d(hashed, shown).tolist(),
        partial(frame_to_array, pixel_format="gray", stored_size=(LOOKED_AT, LOOKED_AT)),
    )
    frames = np.stack(looks)
    of_hashes = frames[np.searchsorted(numbers, hashed)]
    x, y, width, height = inside(bars(of_hashes), LOOKED_AT, LOOKED_AT)
    frames, of_hashes = (each[:, y : y + height, x : x + width] for each in (frames, of_hashes))
    made: dict = {"hashes": hashes_of(of_hashes)}
    if with_thumbnails:
        made["thumbnails"] = packed(thumbnails_of(frames[np.searchsorted(numbers, shown)]))
    return made


def best_first(rows: Sequence[dict], best_by: str | None) -> list[dict]:
    """The rows, those that shall stay first: by the score, then the pixels of a frame, the duration, the path."""

    def number(value: object) -> float:
        if isinstance(value, list) and value and all(isinstance(item, (int, float)) for item in value):
            value = float(np.mean(value))
        return float(value) if isinstance(value, (int, float)) and value == value else float("-inf")

    def order(row: dict) -> tuple:
        width, height = (
            row["frame_size"] if isinstance(row.get("frame_size"), list) and len(row["frame_size"]) == 2 else (0, 0)
        )
        return (
            -number(row.get(best_by or "")),
            -number(width) * number(height),
            -number(row.get("duration")),
            row["video_path"],
        )

    return sorted(rows, key=order)


def alike_clips(
    rows: Sequence[dict], path: str, video_folder: str | None, min_cosine: float
) -> dict[tuple[int, int], float]:
    """Pairs of rows, by their numbers, whose embeddings in a parquet file are alike, with their cosine."""
    paths, vectors = read_embeddings(local_path(path))
    place = {relative_to_folder(name, video_folder): i for i, name in enumerate(paths)}
    known = [i for i, row in enumerate(rows) if row["video_path"] in place]
    chosen = vectors[[place[rows[i]["video_path"]] for i in known]]
    return {(known[one], known[other]): cosine for (one, other), cosine in alike_embeddings(chosen, min_cosine).items()}


def grouped(
    rows: Sequence[dict],
    hashes: Sequence[list[str]],
    thumbnails: Sequence[str] | None,
    min_share: float,
    alike: dict[tuple[int, int], float] | None = None,
) -> list[dict]:
    """The columns of each row, in the order given, of rows that are in the order of `best_first`; `alike` as of `Clips.groups`.

    Without `thumbnails` all clips of one view are duplicates, as they were before 0.4.
    """
    clips, views = Clips(hashes), None
    if thumbnails is None:
        stays, similarity = clips.groups(min_share, alike)
    else:
        kept = thumbnails
        of_clip = lru_cache(10_000)(lambda clip: unpacked(kept[clip]))
        stays, similarity = clips.groups(min_share, alike, lambda one, other: are_copies(of_clip(one), of_clip(other)))
        views, _ = clips.groups(min_share, {(int(one), i): 1.0 for i, one in enumerate(stays) if one != i})
    ranks: dict[int, int] = defaultdict(int)
    made = []
    for i, row in enumerate(rows):
        leader = int(stays[i])
        rank = 0 if leader == i else ranks[leader] + 1
        ranks[leader] = max(rank, ranks[leader])
        path = rows[leader]["video_path"]
        columns = {
            "video_path": row["video_path"],
            "duplicate_group": path,
            "duplicate_of": "" if leader == i else path,
            "duplicate_similarity": round(float(similarity[i]), 4),
            "duplicate_rank": rank,
        }
        if views is not None:
            columns["same_view"] = "" if views[i] == i else rows[int(views[i])]["video_path"]
        made.append(columns)
    return made


def best_column(rows: Sequence[dict], asked: str | None) -> str | None:
    if asked and rows and not any(asked in row for row in rows):
        raise UsageError(f"--best_by {asked}: no row has this column; pass a file that has it as --columns_from")
    return asked or next((name for name in BEST_BY if any(name in row for row in rows)), None)


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    parser.add_argument(
        "--min_share",
        type=between(0.01, 1, float),
        default=MIN_SHARE,
        help="two clips show the same view if the other one has at least this share of the shorter one's frames",
    )
    parser.add_argument(
        "--best_by",
        metavar="COLUMN",
        help="column that ranks duplicates; the clip with the largest value is kept (default: aesthetic_score or technical_score, if present; then size and duration)",
    )
    parser.add_argument(
        "--columns_from",
        action="append",
        default=[],
        metavar="FILE",
        help="file with extra columns of the clips; repeatable",
    )
    parser.add_argument(
        "--embeddings",
        metavar="FILE.parquet",
        help="written by compute_video_frame_quality.py --save_embeddings; clips with similar embeddings count as duplicates, too",
    )
    parser.add_argument(
        "--min_cosine",
        type=between(0, 1, float),
        default=0.97,
        help="minimum cosine similarity of duplicate embeddings",
    )
    add_filter_arguments(parser, motion=True)
    args = parser.parse_args()
    for package in ("faiss", "imagehash"):
        if not find_spec(package):  # looked up: importing them takes half a second
            raise ModuleNotFoundError(name=package)
    filters = filters_of(args)
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    passing = passing_rows(rows, filters)
    further = [*args.columns_from, *(f.file for f in filters)]
    known = with_columns(
        rows if passing is None else map(rows.__getitem__, passing.tolist()), further, args.video_folder
    )
    best_by = best_column(known, args.best_by)
    if args.embeddings and not embedded_paths(local_path(args.embeddings)):
        raise UsageError(
            f"--embeddings {args.embeddings}: no such file, or it is empty; compute_video_frame_quality.py --save_embeddings makes one"
        )
    ranks = Ranks()
    hashes_path = os.path.splitext(str(args.saved_path))[0] + ".hashes.jsonl"
    rule = {"copies": True} if setting_of_existing(hashes_path, args.overwrite, "copies", True, old=False) else {}
    read = partial(clip_hashes, video_folder=args.video_folder, with_thumbnails=bool(rule))
    step = SCORE.step(read, rule, passing=passing, inputs=further, done_word="hashed")
    process_rows(step, rows, from_flags(RunOptions, args, saved_path=hashes_path), ranks)
    if ranks.rank:
        return
    made = {row["video_path"]: row for row in read_rows(hashes_path, ("video_path",))}
    wanted = best_first([row for row in known if row["video_path"] in made], best_by)
    alike = alike_clips(wanted, args.embeddings, args.video_folder, args.min_cosine) if args.embeddings else None
    columns = {
        row["video_path"]: row
        for row in grouped(
            wanted,
            [made[row["video_path"]]["hashes"] for row in wanted],
            [made[row["video_path"]]["thumbnails"] for row in wanted] if rule else None,
            args.min_share,
            alike,
        )
    }
    settings = {
        **({"embeddings": args.embeddings, "min_cosine": args.min_cosine} if args.embeddings else {}),
        **rule, "stills": False, "min_share": args.min_share, "best_by": best_by, "version": SCORE.version,
    }  # fmt: skip
    stamps = {path: {"made_from": row["made_from"]} if "made_from" in row else {} for path, row in made.items()}
    write_whole(
        args.saved_path,
        [{**columns[path], **stamps[path]} for path in made],
        read_rows(errors_of(hashes_path), ("video_path",)) if exists(errors_of(hashes_path)) else [],
        settings,
        [args.video_metadata_path, *further],
    )
    duplicates = sum(row["duplicate_rank"] > 0 for row in columns.values())
    families = len({row["duplicate_group"] for row in columns.values() if row["duplicate_rank"] > 0})
    views = sum(bool(row.get("same_view")) and not row["duplicate_rank"] for row in columns.values())
    moments = f", {views:,} more show a view that another one shows" if rule else ""
    print(
        f"duplicates: {len(columns):,} clips, {duplicates:,} are duplicates of {families:,} others{moments} -> {args.saved_path}"
    )
    if not rule:
        print(
            "duplicates: file made before 0.4, when other moments of one view counted as duplicates, too; --overwrite switches to copies only"
        )


if __name__ == "__main__":
    run(main)
