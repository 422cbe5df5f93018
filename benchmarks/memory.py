"""Whether memory grows with the length of the video: the largest process of each script on a short and a long loop of one video.

    python -m benchmarks.memory VIDEO
    python -m benchmarks.memory VIDEO --minutes 1 60

Motion runs on the clips, as in stage 2, and on the uncut video.
"""

import argparse
import subprocess
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.cases import FFMPEG, Case, detection, motion, prepare, splitting
from benchmarks.measure import compare, table


def looped(video: Path, minutes: float, target: Path) -> Path:
    """A folder with one video of that length: `video` repeated, its packets copied."""
    target.mkdir()
    source = ["-stream_loop", "-1", "-i", str(video)]
    subprocess.run([*FFMPEG, *source, "-t", str(60 * minutes), "-c", "copy", str(target / "a.mp4")], check=True)
    return target


def motion_of_clips(case: Case, out: Path) -> list[list[str]]:
    return motion(replace(case, folder=case.found), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="the video to repeat, with codecs that mp4 can hold")
    parser.add_argument("--minutes", type=float, nargs=2, default=(1, 10), help="the two lengths (default: 1 10)")
    args = parser.parse_args()
    sides = {
        "cutscene_detect.py": detection,
        **{
            f"video_splitting.py --encoder {name}": partial(splitting, encoder=name)
            for name in ("smart", "libx264", "copy")
        },
        "compute_motion_score.py, the clips": motion_of_clips,
        "compute_motion_score.py, the uncut video": motion,
    }
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folders = [looped(args.video, length, work / f"{length}") for length in args.minutes]
        cases = [prepare(folder, work / f"found-{folder.name}") for folder in folders]
        rows = []
        for title, side in sides.items():
            peaks = [compare({title: partial(side, case)}, runs=1)[title][0].largest_mib for case in cases]
            rows.append([title, *(f"{peak:.0f}" for peak in peaks), f"{peaks[1] / peaks[0]:.2f}"])
    print(table(["largest process, MiB", *(f"{length:g} min" for length in args.minutes), "ratio"], rows))


if __name__ == "__main__":
    main()
