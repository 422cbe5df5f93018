"""What became of a dataset, from its files: sources, shots, clips, kept, and why each of the others was dropped.

python -m tools.summary --dataset_folder datasets/panda_70m
"""

from pathlib import Path

import pandas as pd

from utils.cli import run, script_parser
from utils.columns import TEXT
from utils.cutting.spans import parse_timecode
from utils.errors import UsageError
from utils.rows import read_rows

SHOWN_ERRORS = 10


def table(path: Path, *columns: str) -> pd.DataFrame:
    """The rows of a file, which must have these columns; none where there is no file yet."""
    rows = read_rows(path, columns, {"reason": TEXT}) if path.is_file() else []
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*dict.fromkeys([*frame.columns, *columns])])


def unused_shots(scenes: pd.DataFrame, clips: pd.DataFrame) -> int:
    """The number of shots that hold the middle of no clip."""
    middles = dict(list(((clips.start_seconds + clips.end_seconds) / 2).groupby(clips.source_path)))
    used = 0
    for scene in scenes.itertuples():
        inside = middles.get(scene.video_path, pd.Series(dtype=float))
        used += sum(inside.between(parse_timecode(a), parse_timecode(b)).any() for a, b in scene.timecode_list)
    return int(scenes.timecode_list.map(len).sum()) - used


def summarize(folder: Path) -> str:
    """The summary as text.

    Raises: `UsageError` where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"--dataset_folder {folder}: no such folder")
    scenes = table(folder / "scenes.jsonl", "video_path", "timecode_list")
    clips = table(folder / "clips.jsonl", "source_path", "start_seconds", "end_seconds")
    kept, dropped = table(folder / "train.jsonl"), table(folder / "dropped.jsonl", "reason")
    errors = pd.concat(
        [table(folder / f"{name}.errors.jsonl", "video_path", "message") for name in ("scenes", "clips")]
    )
    sources = pd.concat([scenes.video_path, errors.video_path]).nunique()
    lines = [
        f"sources  {sources:,}, of which {len(errors):,} cannot be read or cut",
        *(f"         {message}" for message in errors.message.head(SHOWN_ERRORS)),
        f"shots    {int(scenes.timecode_list.map(len).sum()):,}, of which {unused_shots(scenes, clips):,} give no clip "
        "(too short, or their source failed)",
        f"clips    {len(clips):,}",
        f"kept     {len(kept):,}",
        f"dropped  {len(dropped):,}",
        *(f"         {count:,} {reason}" for reason, count in dropped.reason.value_counts().items()),
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
