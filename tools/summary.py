"""What became of a dataset, from its files: sources, shots, clips, kept, and why each of the rest was dropped.

python -m tools.summary --dataset_folder datasets/panda_70m
"""

from collections import Counter, defaultdict
from pathlib import Path

from utils.cli import run, script_parser
from utils.cutting.spans import parse_timecode
from utils.rows import read_rows


def summarize(folder: Path) -> str:
    """The summary as text."""
    scenes, clips = read_rows(folder / "scenes.jsonl"), read_rows(folder / "clips.jsonl")
    kept, dropped = read_rows(folder / "train.jsonl"), read_rows(folder / "dropped.jsonl")
    errors = [
        row
        for name in ("scenes", "clips")
        if (path := folder / f"{name}.errors.jsonl").is_file()
        for row in read_rows(path)
    ]
    seen = {row["video_path"] for row in scenes}
    shots = [
        (row["video_path"], parse_timecode(start), parse_timecode(stop))
        for row in scenes
        for start, stop in row["timecode_list"]
    ]
    spans = defaultdict(list)
    for clip in clips:
        spans[clip["source_path"]].append((clip["start_seconds"] + clip["end_seconds"]) / 2)
    unused = sum(not any(start <= middle <= stop for middle in spans[source]) for source, start, stop in shots)
    lines = [
        f"sources  {len(seen | {row['video_path'] for row in errors}):,}, of which {len(errors):,} cannot be read or cut",
        *(f"         {row['message']}" for row in errors[:10]),
        f"shots    {len(shots):,}, of which {unused:,} give no clip (too short, or their source failed)",
        f"clips    {len(clips):,}",
        f"kept     {len(kept):,}",
        f"dropped  {len(dropped):,}",
        *(f"         {count:,} {reason}" for reason, count in Counter(row["reason"] for row in dropped).most_common()),
        f"training set: {folder / 'train_panda_70m.json'}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--dataset_folder", type=Path, default=Path("datasets/panda_70m"), help="folder of the stages' files"
    )
    print(summarize(parser.parse_args().dataset_folder))


if __name__ == "__main__":
    run(main)
