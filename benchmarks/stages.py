"""What stages 1 and 2 cost on a folder of films, in CPU-seconds per second of video: each script beside plain decoding, and beside PySceneDetect,
one ffmpeg call a clip and Farneback flow at native size.

    python -m benchmarks.stages FOLDER --runs 3

Every script works on what the one before it found: shots, clips, clips. Stage 2 is its default: text is found with the crop boxes. Start-up (interpreter, imports, models, worker processes) is measured by
itself, on a second of 64 x 64 pixels, and taken off in the columns right of "past start-up".
"""

import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.cases import (
    Case,
    Side,
    detection,
    folder_parser,
    past_start_up,
    plain_decoding,
    prepare,
    script,
    splitting,
    tiny,
)
from benchmarks.measure import Usage, ratio, table
from benchmarks.stage_1 import ffmpeg_a_clip, scenedetect

FARNEBACK = """
import sys, cv2
from utils.scoring.optical_flow import farneback_score
cv2.setNumThreads(1)
def sampled(path):
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    step, number = max(1, int(video.get(cv2.CAP_PROP_FPS) / 2)), 0
    while video.grab():
        if number % step == 0:
            yield cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2GRAY)
        number += 1
for path in sys.argv[1:]:
    farneback_score(sampled(path))
"""
DECODING, DETECTION, SPLITTING = "plain decoding, one thread", "cutscene_detect.py", "video_splitting.py"
SCENEDETECT, FFMPEG, FLOW = "scenedetect detect-adaptive", "ffmpeg, one call a clip", "Farneback, native, 2 a second"
SCORES = ("compute_crop_box.py", "compute_video_frame_quality.py", "compute_motion_score.py")


def farneback(case: Case, out: Path) -> list[list[str]]:
    return [[sys.executable, "-c", FARNEBACK, *(str(case.found / clip["video_path"]) for clip in case.clips)]]


def score(case: Case, out: Path, name: str) -> list[list[str]]:
    files = ["--video_metadata_path", case.found / "clips.jsonl", "--saved_path", out / "score.jsonl"]
    return [script(name, replace(case, folder=case.found), *files)]


SIDES: dict[str, Side] = {
    DECODING: plain_decoding,
    DETECTION: detection,
    SPLITTING: splitting,
    **{name: partial(score, name=name) for name in SCORES},
    SCENEDETECT: scenedetect,
    FFMPEG: ffmpeg_a_clip,
    FLOW: farneback,
}
SUMS = {
    "stage 1": (DETECTION, SPLITTING),
    "stages 1 and 2": (DETECTION, SPLITTING, *SCORES),
    "scenedetect + ffmpeg": (SCENEDETECT, FFMPEG),
    "scenedetect + ffmpeg + Farneback": (SCENEDETECT, FFMPEG, FLOW),
}


def cost_table(case: Case, small: Case, runs: int) -> str:
    usages, net = past_start_up(SIDES, case, small, runs)
    for title, parts in SUMS.items():
        usages[title] = [sum(run, Usage(0, 0, 0)) for run in zip(*(usages[part] for part in parts))]
        net[title] = [sum(run) for run in zip(*(net[part] for part in parts))]

    def per_second(seconds: list[float]) -> str:
        return f"{median(seconds) / case.video_seconds:.4f}"

    rows = [
        [
            name,
            per_second([usage.cpu_seconds for usage in usages[name]]),
            per_second(net[name]),
            f"{ratio(net[name], net[DECODING]):.2f}",
            f"{ratio(net[name], net['scenedetect + ffmpeg + Farneback']):.3f}",
            *Usage.peaks(usages[name]),
        ]
        for name in usages
    ]
    header = ["", "CPU-s per second", "past start-up", "÷ decoding", "÷ scenedetect + ffmpeg + Farneback"]
    return table([*header, "largest process, MiB", "all together, MiB"], rows)


def main() -> None:
    parser = folder_parser(__doc__)
    parser.add_argument("--n_jobs", type=int, default=1, help="worker processes of the scripts (default: 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        case, small = prepare(args.folder, work / "found", args.n_jobs), tiny(work / "tiny")
        frames, copied = (sum(clip[column] for clip in case.clips) for column in ("num_frames", "copied_frames"))
        kept = sum(clip["duration"] for clip in case.clips)
        print(
            f"{len(case.paths)} videos of {case.video_seconds:.0f} s; {len(case.clips)} clips of {kept:.0f} s; "
            f"{copied / frames:.0%} of their frames are copied\n"
        )
        print(cost_table(case, small, args.runs))


if __name__ == "__main__":
    main()
