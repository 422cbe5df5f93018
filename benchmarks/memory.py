"""Whether memory grows with the length of the video: the largest process of each script on a short and a long loop of one video.

    python -m benchmarks.memory VIDEO
    python -m benchmarks.memory VIDEO --minutes 1 60
    python -m benchmarks.memory --largest_frames

Motion runs on the clips, as in stage 2, and on the uncut video. --largest_frames instead measures the scripts that sample frames on a
video of the largest frames that are read, 8192 x 8192 pixels.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.cases import DECODE, FFMPEG, Case, detection, motion, prepare, script, splitting
from benchmarks.measure import compare, table


def looped(video: Path, minutes: float, target: Path) -> Path:
    """A folder with one video of that length: `video` repeated, its packets copied."""
    target.mkdir()
    source = ["-stream_loop", "-1", "-i", str(video)]
    subprocess.run([*FFMPEG, *source, "-t", str(60 * minutes), "-c", "copy", str(target / "a.mp4")], check=True)
    return target


def motion_of_clips(case: Case, out: Path) -> list[list[str]]:
    return motion(replace(case, folder=case.found), out)


def largest_frames(folder: Path) -> None:
    """Print what reading frames of 8192 x 8192 pixels takes; eight of them, as x264 stores them when it is in a hurry."""
    lavfi = ["-f", "lavfi", "-i", "testsrc2=size=8192x8192:rate=2", "-t", "4", "-pix_fmt", "yuv420p"]
    subprocess.run([*FFMPEG, *lavfi, "-preset", "ultrafast", str(folder / "a.mp4")], check=True)
    case = Case(folder, folder)

    def scoring(case: Case, out: Path, name: str) -> list[list[str]]:
        return [script(name, case, "--saved_path", out / "score.jsonl")]

    sides = {"decoding alone": partial(plain_decoding_of, folder / "a.mp4")}
    for name in ("compute_video_frame_quality.py", "compute_text_score.py", "compute_crop_box.py"):
        sides[name] = partial(partial(scoring, name=name), case)
    usages = compare(sides, runs=1)
    print(
        table(
            ["8192 x 8192 pixels", "largest process, MiB"], [[n, f"{u.largest_mib:.0f}"] for n, (u,) in usages.items()]
        )
    )


def plain_decoding_of(video: Path, out: Path) -> list[list[str]]:
    return [[sys.executable, "-c", DECODE, str(video)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", help="the video to repeat, with codecs that mp4 can hold")
    parser.add_argument("--minutes", type=float, nargs=2, default=(1, 10), help="the two lengths (default: 1 10)")
    parser.add_argument("--largest_frames", action="store_true", help="measure large frames, not long videos")
    args = parser.parse_args()
    if args.largest_frames:
        with tempfile.TemporaryDirectory() as name:
            largest_frames(Path(name))
        return
    if not args.video:
        parser.error("give a VIDEO, or --largest_frames")
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
