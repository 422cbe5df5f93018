"""Rows that pass through the pipeline with nothing to compute: what processes, queues and files cost by themselves.

    python -m benchmarks.pipeline --rows 400 --frame_size 1280 720 --saved_path rows.jsonl

With --frame_size each row sends one blank frame, uint8 (height, width, 3), from its worker process, as in a script with a model.
"""

import argparse
from functools import partial

import numpy as np

from utils.cli import add_output_arguments, add_worker_arguments, from_flags
from utils.pipeline.process import RunOptions, Step, in_batches, process_rows

COLUMNS = {"sample_frame_idx": [0, 60, 120, 180], "score": 5.1234, "sharpness": 7.1234, "exposure": 8.1234}


def read(row: dict, frame_size: tuple[int, int] | None) -> dict | np.ndarray:
    return np.zeros((*frame_size[::-1], 3), np.uint8) if frame_size else COLUMNS


def score(batch: list[np.ndarray]) -> list[dict]:
    return [COLUMNS for _ in batch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--frame_size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"))
    add_output_arguments(parser, saved_path="rows.jsonl")
    add_worker_arguments(parser)
    args = parser.parse_args()
    rows = [{"video_path": f"clip-{number:05}.mp4"} for number in range(args.rows)]
    size = tuple(args.frame_size) if args.frame_size else None
    step = Step("rows", partial(read, frame_size=size), {}, in_batches(score) if size else None)
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    main()
