"""What cutting costs: CPU-seconds per second of video and peak memory, beside plain decoding, PySceneDetect and one ffmpeg call per clip.

    python -m benchmarks.stage_1 FOLDER --runs 3

Start-up (interpreter, imports, worker processes) is measured separately, on one second of 64 x 64 pixels, and subtracted in the columns from
"past start-up" on: once per command, and so once per video for `scenedetect`. All ratios are of the columns without start-up.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.cases import (
    FFMPEG,
    Case,
    Side,
    detection,
    folder_parser,
    past_start_up,
    plain_decoding,
    prepare,
    splitting,
    tiny,
)
from benchmarks.measure import Usage, compare, ratio, table

X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "aac"]
DECODING, SCENEDETECT, FFMPEG_A_CLIP = "plain decoding, one thread", "scenedetect detect-adaptive", "ffmpeg, one call per clip"  # fmt: skip
BOTH = f"{SCENEDETECT} + {FFMPEG_A_CLIP}"


def scenedetect(case: Case, out: Path) -> list[list[str]]:
    command = str(Path(sys.executable).with_name("scenedetect"))
    return [[command, "-q", "-i", path, "detect-adaptive"] for path in case.paths]


def ffmpeg_a_clip(case: Case, out: Path) -> list[list[str]]:
    commands = []
    for number, clip in enumerate(case.clips):
        span = ["-ss", clip["start_seconds"], "-i", case.folder / clip["source_path"], "-t", clip["duration"]]
        commands.append([*FFMPEG, *map(str, span), *X264, "-movflags", "+faststart", str(out / f"{number}.mp4")])
    return commands


def splitting_with(encoder: str) -> tuple[str, Side]:
    return f"video_splitting.py --encoder {encoder}", partial(splitting, encoder=encoder)


def nvenc(small: Case) -> dict[str, Side]:
    """h264_nvenc, where it opens."""
    name, side = splitting_with("h264_nvenc")
    try:
        compare({name: partial(side, small)}, runs=1)
    except RuntimeError as error:
        print(f"left out: {str(error).rpartition('error: ')[2].strip()}\n")
        return {}
    return {name: side}


def cost_table(case: Case, small: Case, sides: dict[str, Side], runs: int) -> str:
    usages, net = past_start_up(sides, case, small, runs)
    calls = {name: len(side(case, Path("out"))) for name, side in sides.items()}
    for title, first, second in (
        (BOTH, SCENEDETECT, FFMPEG_A_CLIP),
        *((f"stage 1, {encoder}", "cutscene_detect.py", splitting_with(encoder)[0]) for encoder in ("smart", "libx264")),
    ):  # fmt: skip
        usages[title] = [a + b for a, b in zip(usages[first], usages[second])]
        net[title] = [a + b for a, b in zip(net[first], net[second])]
        calls[title] = calls[first] + calls[second]

    def line(name: str) -> list[str]:
        written = usages[name][0].written
        return [
            name,
            f"{median(usage.cpu_seconds for usage in usages[name]) / case.video_seconds:.4f}",
            str(calls[name]),
            f"{median(net[name]) / case.video_seconds:.4f}",
            *(f"{ratio(net[name], net[other]):.3f}" for other in (DECODING, SCENEDETECT, BOTH)),
            *Usage.peaks(usages[name]),
            f"{written / 1e6:.1f}" if written else "",
        ]

    header = ["", "CPU-s per second", "commands", "past start-up", "÷ decoding", "÷ scenedetect", "÷ scenedetect + ffmpeg"]  # fmt: skip
    header += ["largest process, MiB", "all together, MiB", "written, MB"]
    return table(header, [line(name) for name in usages])


def main() -> None:
    parser = folder_parser(__doc__)
    parser.add_argument("--n_jobs", type=int, default=1, help="worker processes of the scripts (default: 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        case, small = prepare(args.folder, work / "found", args.n_jobs), tiny(work / "tiny")
        copied = sum(clip["copied_frames"] for clip in case.clips) / sum(clip["num_frames"] for clip in case.clips)
        print(
            f"{len(case.paths)} videos of {case.video_seconds:.0f} s; {len(case.clips)} clips of "
            f"{sum(clip['duration'] for clip in case.clips):.0f} s; smart copies {copied:.0%} of their frames\n"
        )
        sides = {
            DECODING: plain_decoding,
            SCENEDETECT: scenedetect,
            "cutscene_detect.py": detection,
            "cutscene_detect.py --detector transitions": partial(detection, flags=["--detector", "transitions"]),
            FFMPEG_A_CLIP: ffmpeg_a_clip,
            **dict(splitting_with(encoder) for encoder in ("smart", "libx264", "copy")),
            **nvenc(small),
        }
        print(cost_table(case, small, sides, args.runs))


if __name__ == "__main__":
    main()
