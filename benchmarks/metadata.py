"""What a large dataset's tables cost: filtering a list by five score files, with `filter_videos_by_motion_score.py` and
with pandas, and resuming a score of which a tenth is left.

    python -m benchmarks.metadata
    python -m benchmarks.metadata --rows 1000000 10000000 --pandas_rows 1000000
    python -m benchmarks.metadata --rows 1000000 --only resume --lists csv parquet

Rows are made up, with the columns that the scripts write; each block of 10,000 rows is in the opposite order in the score files. About a
third of the clips passes. "pandas" reads the files, merges them by path, compares and writes the same columns. "resume" is all that a score's
script does but for reading the videos: it finds the rows that are due, appends theirs, and brings the file into the order of the list;
"resume, pandas" finds them by a merge, appends, sorts and writes. Ten rows show the
start-up.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Usage, measure, table
from utils.pipeline.ancestry import CLIP_COLUMNS, inputs_of, write_settings
from utils.rows import digest, dumps

BOUNDS = {
    "motion": (3, 25),
    "text": (None, 0.3),
    "technical": (2, None),
    "aesthetic": (3, None),
    "watermark": (None, 0.9),
}
BLOCK = 10_000  # different rows; a score file has those of a block in the opposite order

PANDAS = """
import sys
import pandas as pd
folder, bounds = sys.argv[1], eval(sys.argv[2])
rows = pd.read_json(f"{folder}/clips.jsonl", lines=True)
kept = (rows.duration >= 3) & (rows.duration <= 10)
for kind, (low, high) in bounds.items():
    scores = pd.read_json(f"{folder}/{kind}.jsonl", lines=True).drop(columns=["made_from", "sample_frame_idx"], errors="ignore")
    rows = rows.merge(scores, on="video_path", how="left", suffixes=("", "_"))
    value = rows[f"{kind}_score"]
    if value.dtype == object:
        value = value.map(lambda v: sum(v) / len(v) if isinstance(v, list) else v)
    kept &= value.between(low if low is not None else float("-inf"), high if high is not None else float("inf"))
rows[kept].to_json(f"{folder}/pandas.jsonl", orient="records", lines=True)
rows.loc[~kept, ["video_path"]].to_json(f"{folder}/pandas_dropped.jsonl", orient="records", lines=True)
"""


RESUME = """
import sys
from utils.pipeline import process
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import open_rows

def scored(function, tasks, *_):  # no videos: their reading is measured elsewhere
    for row in tasks:
        yield row, {"watermark_score": 0.5}

process.work = scored
folder, listed = sys.argv[1:]
options = RunOptions(f"{folder}/resumed.jsonl", None, listed, saved_freq=1000)
process_rows(Step("watermark", dict, {"version": 1}, opens_video=False), open_rows(None, listed), options)
"""
CONVERT = "import sys; from utils.rows import rows_of, write_rows; write_rows(sys.argv[2], rows_of(sys.argv[1]))"
RESUME_PANDAS = """
import sys
import pandas as pd
folder = sys.argv[1]
rows = pd.read_json(f"{folder}/clips.jsonl", lines=True)
done = pd.read_json(f"{folder}/resumed.jsonl", lines=True)
both = rows.merge(done, on="video_path", how="left", indicator=True)
due = both[both._merge == "left_only"][["video_path"]].assign(watermark_score=0.5)
done = pd.concat([done, due]).set_index("video_path").reindex(rows.video_path).reset_index()
done.to_json(f"{folder}/pandas.jsonl", orient="records", lines=True)
"""


def clip(index: int) -> dict:
    drawn = random.Random(index)
    start, duration = round(drawn.uniform(0, 600), 3), round(drawn.uniform(2, 12), 3)
    source = f"folder_{index // 1000:05}/video_{index // 5:08}.mp4"
    row = {
        "video_path": f"{source[:-4]}-Scene-{index % 5:03}.mp4", "source_path": source, "source_digest": f"{drawn.getrandbits(64):016x}",
        "start_seconds": start, "end_seconds": start + duration, "num_frames": int(duration * 24), "frame_rate": "24000/1001",
        "frame_size": [1280, 720], "duration": duration, "codec": "h264", "has_audio": drawn.random() < 0.5, "copied_frames": 0,
        "bytes": drawn.randrange(10**5, 10**7), "clip_count": 5,
    }  # fmt: skip
    return row | {"made_from": digest(row, ("source_path", "source_digest", "start_seconds"))}


def scores(row: dict) -> dict[str, dict]:
    """A clip's row of each score file."""
    drawn = random.Random(row["bytes"])
    lead, made_from = {"video_path": row["video_path"]}, {"made_from": digest(row, CLIP_COLUMNS)}

    def score(column: str, scale: float, **more: object) -> dict:
        return {**lead, column: round(drawn.random() * scale, 5), **more, **made_from}

    return {
        "motion": score("motion_score", 30, camera_pan=round(drawn.gauss(0, 5), 5), camera_motion=drawn.choice(["static", "pan left"]),
                        frame_size=[1280, 720], duration=row["duration"]),
        "text": score("text_score", 0.4, text_score_max=round(drawn.random(), 5), text_boxes=drawn.randrange(9), sample_frame_idx=[24]),
        "technical": score("technical_score", 10, sharpness=round(drawn.random(), 4), sample_frame_idx=[0, 12, 24, 36]),
        "aesthetic": {**lead, "aesthetic_score": [round(drawn.uniform(2.5, 8), 4) for _ in range(4)], **made_from},
        "watermark": score("watermark_score", 1),
    }  # fmt: skip


def make(folder: Path, count: int) -> int:
    """Write the list and the score files: BLOCK different rows, again and again under other paths. Returns their bytes."""
    lines: dict[str, list[str]] = {kind: [] for kind in ("clips", *BOUNDS)}
    for row in map(clip, range(min(BLOCK, count))):
        for kind, found in {"clips": row, **scores(row)}.items():
            lines[kind].append(dumps(found) + "\n")
    in_order = {"clips": lines["clips"], "resumed": [line for i, line in enumerate(lines["watermark"]) if i % 10]}
    size, listed = 0, folder / "clips.jsonl"
    for kind, block in {**lines, **in_order}.items():
        with open(folder / f"{kind}.jsonl", "w", encoding="utf-8") as file:
            for begin in range(0, count, BLOCK):
                part = "".join(block[: count - begin] if kind in in_order else block[: count - begin][::-1])
                size += file.write(part.replace('{"video_path": "', f'{{"video_path": "{begin // BLOCK:04}/'))
    write_settings(listed, {"file": listed.name}, {})
    for kind in (*BOUNDS, "resumed"):  # as the scripts leave them
        path = folder / f"{kind}.jsonl"
        write_settings(path, {"file": path.name, "version": 1}, inputs_of(path, [listed]))
    return size


def sides(folder: Path, lists: list[str]) -> Iterator[tuple[str, list[str]]]:
    bounds = [part for kind, (low, high) in BOUNDS.items()
              for part in ("--filter", f"{folder}/{kind}.jsonl", f"{kind}_score", str(low).lower(), str(high).lower())]  # fmt: skip
    yield "filter", ["filter_videos_by_motion_score.py", "--video_metadata_path", f"{folder}/clips.jsonl",
                     "--saved_path", f"{folder}/train.jsonl", *bounds]  # fmt: skip
    yield "filter, pandas", ["-c", PANDAS, str(folder), repr(BOUNDS)]
    shutil.copy(folder / "resumed.jsonl", folder / "before.jsonl")
    yield "resume", ["-c", RESUME, str(folder), str(folder / "clips.jsonl")]
    for kind in lists:
        shutil.copy(folder / "before.jsonl", folder / "resumed.jsonl")
        # In a process of its own: the peak of those that this one starts would hold its memory, too.
        subprocess.run([sys.executable, "-c", CONVERT, folder / "clips.jsonl", folder / f"clips.{kind}"], check=True)
        yield f"resume, {kind} list", ["-c", RESUME, str(folder), str(folder / f"clips.{kind}")]
    shutil.move(folder / "before.jsonl", folder / "resumed.jsonl")
    yield "resume, pandas", ["-c", RESUME_PANDAS, str(folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 10**4, 10**5, 10**6], help="of the list")
    parser.add_argument("--pandas_rows", type=int, default=10**6, help="pandas is left out above this number of rows")
    parser.add_argument("--only", choices=["filter", "resume"], help="one of the two")
    parser.add_argument(
        "--lists", nargs="+", default=[], choices=["csv", "parquet"], help="resume with such a list, too"
    )
    parser.add_argument("--folder", help="for the made-up files (default: a temporary one)")
    args = parser.parse_args()
    lines = []
    for count in args.rows:
        folder = Path(tempfile.mkdtemp(dir=args.folder))
        try:
            size = make(folder, count)
            used: dict[str, tuple[Usage, float]] = {}
            for name, command in sides(folder, args.lists):
                if not name.startswith(args.only or ""):
                    continue
                if "pandas" in name and count > args.pandas_rows:
                    continue
                print(f"{count:,} rows: {name}", file=sys.stderr)
                started = time.monotonic()
                usage = measure([sys.executable, *command])
                used[name] = usage, time.monotonic() - started
            for name, (usage, wall) in used.items():
                lines.append(
                    [
                        f"{count:,}",
                        f"{size / 1e6:,.0f}",
                        name,
                        f"{usage.cpu_seconds:.1f}",
                        f"{wall:.1f}",
                        f"{usage.largest_mib:,.0f}",
                        f"{usage.largest_mib * 2**20 / count:,.0f}",
                        f"{usage.cpu_seconds / used[name.partition(',')[0]][0].cpu_seconds:.2f}",
                    ]
                )
        finally:
            shutil.rmtree(folder)
    print(table(["rows", "MB read", "", "CPU-s", "wall, s", "peak, MiB", "bytes a row", "÷ ours"], lines))


if __name__ == "__main__":
    main()
