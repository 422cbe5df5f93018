"""What became of a dataset, from its files: sources, shots, clips, kept, and why each of the rest was dropped.

python -m utils.summary --dataset_folder datasets/panda_70m
"""

from collections import Counter
from pathlib import Path

from utils.arguments import run, script_parser
from utils.rows import read_rows


def summarize(folder: Path) -> str:
    """The summary as text."""
    scenes, clips = read_rows(folder / "scenes.jsonl"), read_rows(folder / "clips.jsonl")
    kept, dropped = read_rows(folder / "train.jsonl"), read_rows(folder / "dropped.jsonl")
    unreadable = [
        row
        for name in ("scenes", "clips")
        if (path := folder / f"{name}.errors.jsonl").is_file()
        for row in read_rows(path)
    ]
    shots = sum(len(row["timecode_list"]) for row in scenes)
    lines = [
        f"sources  {len(scenes) + len([row for row in unreadable if row['video_path'] not in {s['video_path'] for s in scenes}]):,}",
        *(f"         {row['video_path']}: {row['message']}" for row in unreadable[:10]),
        f"shots    {shots:,}",
        f"clips    {len(clips):,}",
        f"kept     {len(kept):,}",
        f"dropped  {len(dropped):,}",
        *(f"         {count:,} {reason}" for reason, count in Counter(row["reason"] for row in dropped).most_common()),
        *(
            f"           {row['video_path']}: {row['reason']}"
            + (f" ({row['value']:.3g})" if row["value"] is not None else "")
            for row in dropped[:20]
        ),
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
