"""Wall time with one worker process and with two, on the same videos: the two alternate, and the table holds medians.

    python -m benchmarks.workers VIDEOS --runs 5

Wall time is what workers are for, so run it on an otherwise idle machine with two cores or more. "work" is the time past
start-up (interpreter, imports, worker processes), which is that of the same script on a second of 64 x 64 pixels.
"""

import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.cases import Case, Side, detection, folder_parser, motion, prepare, splitting, tiny
from benchmarks.measure import ROOT, table


def encoding(case: Case, out: Path) -> list[list[str]]:
    return splitting(case, out, encoder="libx264")


SIDES: dict[str, Side] = {
    "cutscene_detect.py": detection,
    "video_splitting.py": splitting,
    "video_splitting.py --encoder libx264": encoding,
    "compute_motion_score.py": motion,
}


def wall_seconds(side: Side, case: Case, n_jobs: int) -> float:
    with tempfile.TemporaryDirectory() as out:
        commands = side(replace(case, n_jobs=n_jobs), Path(out))
        started = time.monotonic()
        for command in commands:
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return time.monotonic() - started


def speedup_table(case: Case, small: Case, runs: int) -> str:
    rows = []
    for name, side in SIDES.items():
        start_up = median(wall_seconds(side, small, n_jobs=1) for _ in range(runs))
        pairs = [[wall_seconds(side, case, n_jobs) for n_jobs in (1, 2)] for _ in range(runs)]
        one, two = (median(seconds) for seconds in zip(*pairs))
        whole = median(one / two for one, two in pairs)
        work = median(max(one - start_up, 0) / max(two - start_up, 1e-3) for one, two in pairs)
        rows.append([name, f"{start_up:.1f}", f"{one:.1f}", f"{two:.1f}", f"{whole:.2f}", f"{work:.2f}"])
    return table(["", "start-up, s", "1 worker, s", "2 workers, s", "ratio", "ratio, work"], rows)


def main() -> None:
    args = folder_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as made:
        case, small = prepare(args.folder, Path(made, "dataset")), tiny(Path(made, "tiny"))
        print(speedup_table(case, small, args.runs))


if __name__ == "__main__":
    main()
