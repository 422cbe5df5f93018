"""Find the shots of each video: one row a video, from one decode.

Columns added: timecode_list [[start, end), ...] a shot each (a dissolve is halved between its two), as "HH:MM:SS.mmm"
from PTS, counted from the first frame; frame_rate, frames a second as a fraction (of a variable rate, the mean);
frame_size [width, height] in pixels as a player shows it; duration in seconds; num_frames; codec; transitions [[kind,
start, end), ...], dissolves, wipes and fades, whose frames belong to no clean shot; source_digest, of the file's
content; and where the decoder concealed damage, damaged [[start, end), ...] and damaged_share, 0-1 of the frames.

    python cutscene_detect.py --video_folder datasets/panda_70m/before_vcut --saved_path datasets/panda_70m/scenes.jsonl
    python cutscene_detect.py --video_metadata_path videos.csv --video_path_column path --saved_path scenes.jsonl --detector adaptive
"""

from array import array
from collections.abc import Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from av.video.reformatter import VideoReformatter
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, SceneDetector
from scenedetect.common import Timecode
from scenedetect.detectors import HashDetector, HistogramDetector, ThresholdDetector

from utils.cli import add_input_arguments, add_output_arguments, add_worker_arguments, from_flags, run, script_parser
from utils.cutting.transition_detector import TransitionDetector
from utils.errors import UsageError
from utils.pipeline.process import RunOptions, Step, input_rows, process_rows
from utils.video.damage import Damage
from utils.video.geometry import display_size
from utils.video.opening import decode, open_video
from utils.video.timing import frame_rate, last_frame_length
from utils.video_utils import content_digest, locate

FRAME_SIDE = 256  # pixels of the long side that a detector sees, the size to which PySceneDetect scales down itself
MIN_SHOT_SECONDS = 0.6
DETECTORS = {
    "adaptive": AdaptiveDetector,
    "content": ContentDetector,
    "hash": HashDetector,
    "histogram": HistogramDetector,
    "threshold": ThresholdDetector,
}


def make_detector(name: str, threshold: float | None, transnetv2_model: str | None = None) -> SceneDetector:
    """Our TransitionDetector, or PySceneDetect's detector of that name. `threshold` None takes its own default, for
    `adaptive` the better one of its published sweep.
    """
    if name == "transitions":
        return TransitionDetector()
    if name == "transnetv2":
        from scenedetect.detectors.transnet_v2 import TransnetV2Detector

        threshold = 0.5 if threshold is None else threshold
        return TransnetV2Detector(transnetv2_model, ["CPUExecutionProvider"], threshold, min_scene_len=MIN_SHOT_SECONDS)
    options = {"min_scene_len": MIN_SHOT_SECONDS}
    if name == "adaptive":
        options |= {"adaptive_threshold": 3.5, "window_width": 3}
    if threshold is not None:
        options["adaptive_threshold" if name == "adaptive" else "threshold"] = threshold
    return DETECTORS[name](**options)


def find_cuts(detector: SceneDetector, images: Iterable[tuple[FrameTimecode, np.ndarray]]) -> list[float]:
    """Seconds at which new shots begin, rising. `images`: uint8 (H, W, 3), BGR, each with its time."""
    cuts = []
    for time, image in images:
        cuts += detector.process_frame(time, image)
    cuts += detector.post_process(time)
    return sorted({cut.seconds for cut in cuts})


def detect_shots(
    row: dict, video_folder: str | None, detector: str, threshold: float | None, transnetv2_model: str | None
) -> dict:
    """The columns of one video; one decode, whose frames are seen small and not kept."""
    times, size, damage, path = array("q"), None, Damage(), locate(row["video_path"], video_folder)

    def images():
        nonlocal size
        shrink = VideoReformatter()  # kept over the frames: a new one each would cost more than the scaling
        for frame in decode(container, stream, damage):
            if size is None:
                size = display_size(frame, stream)
                scale = min(1, FRAME_SIDE / max(frame.width, frame.height))
                small = (max(2, round(frame.width * scale)), max(2, round(frame.height * scale)))
            times.append(frame.pts)
            image = shrink.reformat(
                frame, *small, format="bgr24", interpolation="FAST_BILINEAR", threads=1
            ).to_ndarray()
            yield (
                FrameTimecode(
                    Timecode(frame.pts - times[0], stream.time_base), fps=stream.average_rate or Fraction(25)
                ),
                image,
            )

    finder = make_detector(detector, threshold, transnetv2_model)
    with open_video(path) as (container, stream):
        cuts = find_cuts(finder, images())
        codec, declared, time_base = stream.codec_context.codec.canonical_name, stream.average_rate, stream.time_base
    times = np.array(times)
    rate = frame_rate(times, time_base, declared)
    seconds = (times - times[0]) * float(time_base)
    end = float((int(times[-1]) - int(times[0]) + last_frame_length(times, rate, time_base)) * time_base)
    # A detector may place a cut between frames: it is the first frame from there on (0.6 ms allow for its rounding).
    starts = sorted({0, *(int(i) for i in np.searchsorted(seconds, np.array(cuts) - 6e-4) if i < len(times))})
    borders = [float(seconds[i]) for i in starts] + [end]
    damaged = damage.spans(path)
    return {
        "timecode_list": [[timecode(start), timecode(stop)] for start, stop in zip(borders, borders[1:])],
        "transitions": [
            [transition.kind, timecode(transition.start.seconds), timecode(min(transition.end.seconds, end))]
            for transition in getattr(finder, "transitions", [])
        ],
        "frame_rate": str(rate),
        "frame_size": list(size),
        "duration": round(end, 6),
        "num_frames": len(times),
        "codec": codec,
        "source_digest": content_digest(path),
        **damage_columns(damaged, [*seconds.tolist(), end]),
    }


def damage_columns(spans: list[tuple[int, int]], borders: list[float]) -> dict:
    """The columns about damaged frames [first, stop), none where there is none. `borders`: seconds at which frames begin."""
    share = sum(stop - first for first, stop in spans) / (len(borders) - 1)
    found = [[timecode(borders[first]), timecode(borders[stop])] for first, stop in spans]
    return {"damaged": found, "damaged_share": round(share, 4)} if spans else {}


def timecode(seconds: float) -> str:
    """`HH:MM:SS.mmm`, to the nearest millisecond."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 3600000:02}:{milliseconds // 60000 % 60:02}:{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}"


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="scenes.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--detector",
        choices=["transitions", *DETECTORS, "transnetv2"],
        default="transitions",
        help="transitions is ours and finds cuts, dissolves, wipes and fades; the others are PySceneDetect's, of which adaptive runs at 3.5 "
        "with a window of 3 frames, the best of its published sweep, and all with no shot under 0.6 s",
    )
    parser.add_argument(
        "--cutscene_threshold",
        type=float,
        help="the detector's threshold, in its own unit; without it, the detector's default",
    )
    parser.add_argument("--transnetv2_model", help="ONNX file of TransNetV2, for --detector transnetv2")
    args = parser.parse_args()
    if args.detector == "transitions" and args.cutscene_threshold is not None:
        raise UsageError(
            "--detector transitions has no threshold; leave --cutscene_threshold out, or choose another --detector"
        )
    if args.detector == "transnetv2" and not Path(args.transnetv2_model or "").is_file():
        raise UsageError(
            f"--transnetv2_model is {args.transnetv2_model!r}, no file: --detector transnetv2 needs the network's weights as ONNX, with an input "
            "'input' and an output 'output'; PySceneDetect's documentation of detect-transnetv2 says where to get them"
        )
    choices = {
        "detector": args.detector,
        "threshold": args.cutscene_threshold,
        "transnetv2_model": args.transnetv2_model,
    }
    read = partial(detect_shots, video_folder=args.video_folder, **choices)
    step = Step("cutscene_detect", read, choices, done_word="cut into shots")
    process_rows(
        step,
        input_rows(args.video_folder, args.video_metadata_path, args.video_path_column, skip_clips=True),
        from_flags(RunOptions, args),
    )


if __name__ == "__main__":
    run(main)
