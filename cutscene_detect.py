"""Find the shots of each video, in one decode: one row per video.

Columns added: timecode_list [[start, end), ...], one per shot, as "HH:MM:SS.mmm" from the first frame's PTS (a dissolve
is split in the middle); transitions [[kind, start, end), ...], the dissolves, wipes and fades, which no clip contains;
with any detector, fades from and to black or white at the ends of shots, whose frames have less than 95 % of their contrast;
frame_rate, frames per second as a fraction (the mean if it varies); frame_size [width, height] in pixels as displayed;
duration in seconds; num_frames; codec; source_digest, a digest of the file's content.
If the decoder concealed damage: damaged [[start, end), ...] and damaged_share, 0-1 of the frames. If the file has several
video tracks: video_track, the one that was read ("2 of 3"): the default track, else the largest.

    python cutscene_detect.py --video_folder datasets/panda_70m/before_vcut --saved_path datasets/panda_70m/scenes.jsonl
    python cutscene_detect.py --video_metadata_path videos.csv --video_path_column path --saved_path scenes.jsonl --detector adaptive
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from array import array
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain, pairwise

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from scenedetect import FrameTimecode
from scenedetect.common import Timecode

from utils.cli import about, at_least, from_flags, row_parser, run
from utils.cutting.detectors import DEFAULT, DETECTORS, FRAME_SIDE, ShotDetector, make_detector
from utils.cutting.end_fades import EndFades
from utils.cutting.spans import shot_borders, timecode
from utils.pipeline.ancestry import setting_of_existing
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import open_rows
from utils.video.damage import Damage
from utils.video.geometry import display_size
from utils.video.opening import decode, open_video, video_tracks
from utils.video.timing import frame_rate, last_frame_length
from utils.video_utils import content_digest, locate


def find_cuts(
    detector: ShotDetector, frames: Iterable[tuple[FrameTimecode, np.ndarray]]
) -> tuple[list[float], np.ndarray]:
    """Seconds at which new shots begin, rising, and the PTS of all frames, int64. `frames`: uint8 (H, W, 3), BGR, each
    with its time.
    """
    cuts, times = [], array("q")
    for time, image in frames:
        times.append(time.pts)
        cuts += detector.process_frame(time, image)
    cuts += detector.post_process(time)
    return sorted({cut.seconds for cut in cuts}), np.array(times)


def scaled_down(
    frames: Iterable[av.VideoFrame], stream: av.VideoStream, long_side: int
) -> Iterator[tuple[FrameTimecode, np.ndarray]]:
    """Frames as a detector takes them: the time from the first one on, and uint8 (H, W, 3), BGR, at most `long_side`
    pixels on the long side.
    """
    scaler = VideoReformatter()  # one for all frames: making it costs more than scaling a frame
    first_pts = None
    for frame in frames:
        assert frame.pts is not None  # `decode` gives every frame one
        first_pts = frame.pts if first_pts is None else first_pts
        scale = min(1, long_side / max(frame.width, frame.height))
        width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
        small = scaler.reformat(frame, width, height, format="bgr24", interpolation="FAST_BILINEAR", threads=1)
        time = Timecode(frame.pts - first_pts, stream.time_base)
        yield FrameTimecode(time, fps=stream.average_rate or Fraction(25)), small.to_ndarray()


def detect_shots(
    row: dict,
    video_folder: str | None,
    new_detector: Callable[[], ShotDetector],
    frame_side: int = FRAME_SIDE,
    end_fades: bool = False,
) -> dict:
    """The columns of one video. `end_fades`: with the fades at the ends of shots that a detector does not see. Raises: `VideoError`."""
    fades = EndFades() if end_fades else None
    detector, damage, path = new_detector(), Damage(), locate(row["video_path"], video_folder)
    with open_video(path) as (container, stream):
        digest = content_digest(path)  # now: of a file that is replaced meanwhile, no clip is cut
        assert stream.time_base is not None  # a stream that is demuxed has one
        frames = decode(container, stream, damage)
        first = next(frames)
        size, codec = display_size(first, stream), stream.codec_context.codec.canonical_name
        images = scaled_down(chain([first], frames), stream, frame_side)
        cuts, times = find_cuts(detector, fades.watch(images) if fades else images)
        time_base, declared_rate = stream.time_base, stream.average_rate
        tracks = video_tracks(container)
        taken = {"video_track": f"{tracks.index(stream) + 1} of {len(tracks)}"} if len(tracks) > 1 else {}
    rate = frame_rate(times, time_base, declared_rate)
    end = float((int(times[-1]) + last_frame_length(times, rate, time_base)) * time_base)
    seconds = times * float(time_base)
    borders = shot_borders(cuts, seconds, end)
    transitions = [
        (kind, start.seconds, min(stop.seconds, end)) for kind, start, stop in getattr(detector, "transitions", [])
    ]
    if fades:
        transitions = with_end_fades(transitions, fades, borders, seconds)
    return {
        "timecode_list": [[timecode(start), timecode(stop)] for start, stop in zip(borders, borders[1:])],
        "transitions": [[kind, timecode(start), timecode(stop)] for kind, start, stop in transitions],
        "frame_rate": str(rate),
        "frame_size": list(size),
        "duration": round(end, 6),
        "num_frames": len(times),
        "codec": codec,
        "source_digest": digest,
        **taken,
        **damage_columns(damage.spans(path), np.append(seconds, end)),
    }


def with_end_fades(
    transitions: list[tuple[str, float, float]], fades: EndFades, borders: list[float], seconds: np.ndarray
) -> list[tuple[str, float, float]]:
    """The transitions, and the fades at the ends of shots where the detector has none, in order."""
    ends, found = np.append(seconds, borders[-1]), list(transitions)
    for first, stop in pairwise(int(i) for i in np.searchsorted(ends, borders)):
        for a, b in fades.spans(seconds, first, stop):
            begins, stops = float(ends[a]), float(ends[b])
            if all(stops <= start or stop <= begins for _, start, stop in transitions):
                found.append(("fade", begins, stops))
    return sorted(found, key=lambda transition: transition[1])


def damage_columns(spans: list[tuple[int, int]], borders: np.ndarray) -> dict:
    """The columns about damaged frames [first, stop), none where there is none. `borders`: seconds at which frames begin."""
    share = sum(stop - first for first, stop in spans) / (len(borders) - 1)
    found = [[timecode(borders[first]), timecode(borders[stop])] for first, stop in spans]
    return {"damaged": found, "damaged_share": round(share, 4)} if spans else {}


def main() -> None:
    parser = row_parser(__doc__, saved_path="scenes.jsonl")
    described = "; ".join(f"{name}: {detector.help}" for name, detector in DETECTORS.items())
    parser.add_argument(
        "--detector",
        choices=list(DETECTORS),
        help=f"{described} (default: that of the existing --saved_path, else {DEFAULT})",
    )
    thresholds = [f"{name} {one.threshold:g}" for name, one in DETECTORS.items() if one.threshold is not None]
    parser.add_argument(
        "--cutscene_threshold",
        type=at_least(0, float),
        help=f"threshold of the detector, in its own unit; without it {', '.join(thresholds)}",
    )
    needs = {flag: text for detector in DETECTORS.values() for flag, text in detector.needs.items()}
    for flag, text in needs.items():
        parser.add_argument(f"--{flag}", help=text)
    args = parser.parse_args()
    if args.detector is None:
        args.detector = setting_of_existing(args.saved_path, args.overwrite, "detector", DEFAULT)
        args.detector = args.detector if args.detector in DETECTORS else DEFAULT

    detector, given = DETECTORS[args.detector], {flag: getattr(args, flag) for flag in needs}
    new_detector = partial(make_detector, args.detector, args.cutscene_threshold, given)
    with about(" ".join([f"--detector {args.detector}", *(f"--{flag} {given[flag]}" for flag in detector.needs)])):
        new_detector()  # wrong choices end the run here, before any work
    end_fades = setting_of_existing(args.saved_path, args.overwrite, "end_fades", True, old=False)
    step = Step(
        "cutscene_detect",
        partial(
            detect_shots,
            video_folder=args.video_folder,
            new_detector=new_detector,
            frame_side=detector.frame_side,
            end_fades=end_fades,
        ),
        {
            "detector": args.detector,
            "threshold": args.cutscene_threshold,
            **given,
            **({"end_fades": True} if end_fades else {}),
        },
        content_column="source_digest",
        done_word="cut into shots",
        shared_import=detector.shared_import,
    )
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column, skip_clips=True)
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
