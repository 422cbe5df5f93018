"""Cut each video's shots into clips of 3 to 10 seconds that hold exactly the frames of their span.

Reads the rows of cutscene_detect.py (`video_path`, `timecode_list`); one row a clip comes out: video_path, relative to
--output_folder; source_path; source_digest, of its content; start_seconds, end_seconds in the source, from its first
frame; num_frames; frame_rate; frame_size [width, height] in pixels; duration in seconds; codec; copied_frames, those
taken over bit by bit; bytes, the file's size.

    python video_splitting.py --video_metadata_path scenes.jsonl --video_folder IN --output_folder OUT --saved_path clips.jsonl
    MAX_SECONDS=5 python video_splitting.py --video_metadata_path scenes.jsonl --video_folder IN --output_folder OUT
    --encoder libx264
"""

import hashlib
import os
import re
from collections import Counter
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath

import av
import numpy as np

from utils.cli import add_output_arguments, add_worker_arguments, at_least, from_flags, run, script_parser
from utils.cutting.clip_track import Clip, Encoding
from utils.cutting.clip_writer import decoded_times, index_source, read_identity, write_clips
from utils.errors import UsageError, VideoError
from utils.pipeline.process import RunOptions, Step, input_rows, process_rows
from utils.video.geometry import display_size
from utils.video.opening import decode, open_video, writing
from utils.video.timing import frame_rate, last_frame_length
from utils.video_utils import content_digest, locate

ROUNDING = 6e-4  # seconds: half of a timecode's last digit, and some for frames that begin exactly there


def parse_timecode(text: str) -> float:
    """Seconds of "HH:MM:SS.mmm" (also "MM:SS" or plain seconds)."""
    seconds = 0.0
    for part in str(text).split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def long_enough(start: float, stop: float, min_seconds: float) -> bool:
    return stop - start >= min_seconds - 2 * ROUNDING


def check_row(row: dict, list_path: str, needs_size: bool) -> None:
    """Raises: `UsageError` for a row that cutscene_detect.py would not have written."""
    at = f"{list_path}: {row['video_path']}"
    try:
        spans = [(parse_timecode(start), parse_timecode(stop)) for start, stop in row["timecode_list"]]
        [(parse_timecode(start), parse_timecode(stop)) for start, stop in unclean(row)]
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"{at}: timecode_list is {row.get('timecode_list')!r}, not [[start, end], ...]; make it with cutscene_detect.py"
        ) from None
    borders = [border for span in spans for border in span]
    if borders != sorted(borders):
        raise UsageError(f"{at}: timecode_list has shots that overlap or are out of order")
    size = row.get("frame_size")
    if needs_size and not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)):
        raise UsageError(f"{at}: frame_size is {size!r}, not [width, height], which --resolution_threshold needs")


def split_shot(borders: np.ndarray, min_seconds: float, max_seconds: float, long_shots: str) -> list[tuple[int, int]]:
    """Frame spans [first, stop) of a shot's clips. `borders`: seconds at which its frames begin, and at last its end.

    A shot of at most `max_seconds` is one clip. A longer one becomes, by `even`, the fewest equal parts that are short
    enough (to a frame), or, by `greedy`, pieces of `max_seconds` and a rest that is dropped under `min_seconds`. Where
    equal parts would fall under `min_seconds`, greedy is taken: some of such a shot must be lost.
    """
    last = len(borders) - 1
    longest = max_seconds + 2 * ROUNDING
    if borders[-1] - borders[0] <= longest:
        return [(0, last)]
    if long_shots == "even":
        parts = int(np.ceil((borders[-1] - borders[0]) / longest))
        while parts <= (borders[-1] - borders[0]) / min_seconds:
            wanted = np.linspace(borders[0], borders[-1], parts + 1)
            at = np.searchsorted(borders, wanted)
            at = np.where(
                np.abs(borders[np.maximum(at - 1, 0)] - wanted) < np.abs(borders[np.minimum(at, last)] - wanted),
                at - 1,
                np.minimum(at, last),
            )
            if np.diff(borders[at]).max() <= longest and np.diff(borders[at]).min() >= min_seconds - 2 * ROUNDING:
                return [(int(a), int(b)) for a, b in zip(at, at[1:])]
            parts += 1
    spans, first = [], 0
    while first < last:
        stop = max(first + 1, int(np.searchsorted(borders, borders[first] + longest, side="right")) - 1)
        short_enough = borders[stop] - borders[first] <= longest  # not so where one frame is shown for longer
        if short_enough and long_enough(borders[first], borders[stop], min_seconds):
            spans.append((first, stop))
        first = stop
    return spans


def unclean(row: dict) -> list[tuple[str, str]]:
    """Spans [start, stop) that belong to no clip: of transitions, and of damaged frames."""
    return [(start, stop) for *_, start, stop in [*row.get("transitions", []), *row.get("damaged", [])]]


def clean_spans(row: dict, margin_seconds: float) -> list[tuple[float, float]]:
    """The shots of a row in seconds [start, stop), less its transitions and damaged frames, with a margin on both sides
    of each.
    """
    spans = [(parse_timecode(start), parse_timecode(stop)) for start, stop in row["timecode_list"]]
    for start, stop in unclean(row):
        low, high = parse_timecode(start) - margin_seconds, parse_timecode(stop) + margin_seconds
        pieces = [piece for a, b in spans for piece in ([(a, b)] if b <= low or high <= a else [(a, low), (high, b)])]
        spans = [(a, b) for a, b in pieces if b > a]
    return spans


def split_video(
    row: dict,
    video_folder: str | None,
    output_folder: str,
    transition_margin: float,
    min_seconds: float,
    max_seconds: float,
    long_shots: str,
    encoding: Encoding,
) -> list[dict]:
    """Write the clips of one source and give their rows."""
    source = locate(row["video_path"], video_folder)
    index = index_source(source)
    if index is not None and len(index.times) == row.get("num_frames", len(index.times)):
        times = index.times
    else:
        index, times = None, decoded_times(source)
        if len(times) != row.get("num_frames", len(times)):
            raise VideoError(
                f"{source!r} has {len(times)} frames where num_frames says {row['num_frames']}: it has changed; detect its shots again"
            )
    with open_video(source) as (_, stream):
        time_base, declared = stream.time_base, stream.average_rate
    end = int(times[-1]) + last_frame_length(times, frame_rate(times, time_base, declared), time_base)
    borders_pts = np.append(times, end)
    borders = (borders_pts - borders_pts[0]) * float(time_base)

    spans = []
    for start, stop in clean_spans(row, transition_margin):
        if not long_enough(start, stop, min_seconds):
            continue
        first, last = np.searchsorted(borders, [start - ROUNDING, stop - ROUNDING])
        if last <= first or stop > borders[-1] + 0.1:
            raise VideoError(
                f"{source!r}: the shot {start:g} to {stop:g} s lies outside the video of {borders[-1]:g} s; detect its shots again"
            )
        last = min(last, len(times))
        spans += [
            (first + a, first + b)
            for a, b in split_shot(borders[first : last + 1], min_seconds, max_seconds, long_shots)
        ]

    if not spans:
        raise VideoError(f"{source!r}: no whole number of its frames lasts {min_seconds:g} to {max_seconds:g} s")
    clips = []
    digest = content_digest(source)
    if digest != row.get("source_digest", digest):
        raise VideoError(f"{source!r} is another file than the one whose shots were found; detect its shots again")
    stamp = {
        "source": row["video_path"],
        "bytes": os.path.getsize(source),
        "digest": digest,
        "encoding": [encoding.encoder, encoding.crf, encoding.preset, encoding.audio],
    }
    for number, (first, last) in enumerate(spans, 1):
        name = f"{row['clip_prefix']}{number:03}.mp4"
        identity = {**stamp, "span": [int(borders_pts[first]), int(borders_pts[last])]}
        clips.append(Clip(Path(output_folder, name), times[first:last], int(borders_pts[last]), identity))
    if any(len(os.fsencode(clip.path.name)) > 250 for clip in clips):
        raise VideoError(f"{source!r}: its name is too long to add a scene number to; rename it")
    remove_clips(output_folder, row, keep={clip.path.name for clip in clips})
    write_clips(source, clips, index, encoding)
    return [clip_row(clip, row["video_path"], output_folder, times, time_base, declared, len(clips)) for clip in clips]


def clip_row(
    clip: Clip, source_path: str, output_folder: str, times: np.ndarray, time_base, declared, count: int
) -> dict:
    with open_video(str(clip.path)) as (container, stream):
        size, codec, sound = (
            display_size(next(decode(container, stream)), stream),
            stream.codec_context.codec.canonical_name,
            bool(container.streams.audio),
        )
    start, stop = clip.start_pts - int(times[0]), clip.stop_pts - int(times[0])
    return {
        "video_path": clip.path.relative_to(output_folder).as_posix(),
        "source_path": source_path,
        "source_digest": clip.identity["digest"],
        "start_seconds": float(start * time_base),
        "end_seconds": float(stop * time_base),
        "num_frames": len(clip.times),
        "frame_rate": str(frame_rate(clip.times, time_base, declared)),
        "frame_size": list(size),
        "duration": float((stop - start) * time_base),
        "codec": codec,
        "has_audio": sound,
        **({"audio_error": clip.audio_error} if clip.audio_error else {}),
        "copied_frames": clip.copied_frames,
        "bytes": clip.path.stat().st_size,
        "clip_count": count,
    }


def remove_clips(output_folder: str, row: dict, keep: set[str]) -> None:
    """Remove a source's clips that are not in `keep`, and what a killed run left half-written; nothing else."""
    folder, prefix = Path(output_folder, row["clip_prefix"]).parent, Path(row["clip_prefix"]).name
    for path in folder.glob("*") if folder.is_dir() else ():
        clip, half = (
            re.fullmatch(form.format(re.escape(prefix)), path.name)
            for form in (r"{}\d{{3,}}\.mp4", r"\.{}\d{{3,}}\.mp4\.tmp")
        )
        ours = (
            clip
            and path.name not in keep
            and read_identity(path).get("identity", {}).get("source") == row["video_path"]
        )
        if half or ours:
            with writing(path):
                path.unlink()


def add_clip_prefixes(rows: list[dict]) -> None:
    """Give each source the path that its clips' names begin with: mirrored below the output folder, whatever it is
    called.

    Two sources of one folder whose names differ only in their ending keep the ending; where that does not tell them
    apart, a digest of the path does.
    """
    paths = {row["video_path"]: mirrored(row["video_path"]) for row in rows}
    stems = Counter(path.with_suffix("") for path in paths.values())
    for row in rows:
        path = paths[row["video_path"]]
        row["clip_prefix"] = str(path if stems[path.with_suffix("")] > 1 else path.with_suffix(""))
    prefixes = Counter(row["clip_prefix"] for row in rows)
    for row in rows:
        if prefixes[row["clip_prefix"]] > 1:
            row["clip_prefix"] += "-" + hashlib.sha256(os.fsencode(row["video_path"])).hexdigest()[:8]
        row["clip_prefix"] += "-Scene-"


def mirrored(video_path: str) -> PurePosixPath:
    """The path below the output folder of a source that may be absolute or lie above the video folder."""
    return PurePosixPath(*[part for part in PurePosixPath(video_path).parts if part not in ("/", "..")])


def pixels(text: str) -> int:
    """An argparse type: a number of pixels, or WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    return int(width) * int(height or 1)


def main() -> None:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("input")
    group.add_argument("--video_metadata_path", required=True, help="rows of cutscene_detect.py (jsonl or csv)")
    group.add_argument("--video_folder", help="folder that the rows' paths are relative to")
    group.add_argument("--video_path_column", default="video_path", help="column that holds the paths")
    add_output_arguments(parser, saved_path="clips.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--output_folder", required=True, help="folder for the clips; the folders of the sources are mirrored in it"
    )
    parser.add_argument(
        "--min_seconds",
        type=at_least(0.1, float),
        default=os.environ.get("MIN_SECONDS", "3"),
        help="shorter shots are dropped",
    )
    parser.add_argument(
        "--max_seconds",
        type=at_least(0.1, float),
        default=os.environ.get("MAX_SECONDS", "10"),
        help="longer shots are split",
    )
    parser.add_argument(
        "--long_shots",
        choices=["even", "greedy"],
        default="even",
        help="split into equal parts, or into pieces of --max_seconds, the rest dropped if short",
    )
    parser.add_argument(
        "--transition_margin",
        type=at_least(0, float),
        default=0.1,
        help="seconds kept out of the clips on both sides of each dissolve, wipe or fade, besides its own frames",
    )
    parser.add_argument(
        "--resolution_threshold",
        type=pixels,
        default=0,
        help="drop sources with fewer pixels than this number (or WIDTHxHEIGHT)",
    )
    parser.add_argument(
        "--encoder",
        choices=["smart", "libx264", "h264_nvenc", "copy"],
        default="smart",
        help="smart copies whole GOPs of H.264 and encodes the edges with x264; copy is not exact: it begins at the keyframe before",
    )
    parser.add_argument(
        "--crf", type=at_least(0), default=18, help="quality of what is encoded; smaller is better and larger"
    )
    parser.add_argument("--preset", default="veryfast", help="x264's preset")
    parser.add_argument(
        "--encoder_threads", type=at_least(1), default=1, help="x264's threads a process; for few, long sources"
    )
    parser.add_argument("--no_audio", action="store_true", help="leave the sound out")
    args = parser.parse_args()
    if args.max_seconds < args.min_seconds:
        parser.error(f"--max_seconds {args.max_seconds:g} is below --min_seconds {args.min_seconds:g}")
    if args.video_folder and os.path.realpath(args.video_folder) == os.path.realpath(args.output_folder):
        parser.error(
            f"--output_folder {args.output_folder} is the --video_folder; give the clips a folder of their own"
        )
    try:
        Path(args.output_folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output_folder {args.output_folder}: {error.strerror}") from None
    if not os.access(args.output_folder, os.W_OK):
        raise UsageError(f"--output_folder {args.output_folder} cannot be written")
    check_encoder(args.encoder, args.preset)

    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    for row in rows:
        check_row(row, args.video_metadata_path, needs_size=bool(args.resolution_threshold))
    add_clip_prefixes(rows)

    def passes(row: dict) -> bool:
        large = (
            not args.resolution_threshold or row["frame_size"][0] * row["frame_size"][1] >= args.resolution_threshold
        )
        return large and any(
            long_enough(start, stop, args.min_seconds) for start, stop in clean_spans(row, args.transition_margin)
        )

    prefixes = {row["video_path"]: row["clip_prefix"] for row in rows if passes(row)}

    def remove_unowned(clips: list[dict]) -> None:
        """Remove clips whose source gives none any more, or gives them other names; the others it replaces itself."""
        for clip in clips:
            if not clip["video_path"].startswith(prefixes.get(clip["source_path"], "\0")):
                Path(args.output_folder, mirrored(clip["video_path"])).unlink(missing_ok=True)

    cut = {
        "transition_margin": args.transition_margin,
        "min_seconds": args.min_seconds,
        "max_seconds": args.max_seconds,
        "long_shots": args.long_shots,
    }
    coded = {"encoder": args.encoder, "crf": args.crf, "preset": args.preset, "audio": not args.no_audio}
    encoding = Encoding(**coded, threads=args.encoder_threads, anew=args.overwrite)
    step = Step(
        "video_splitting",
        partial(
            split_video, video_folder=args.video_folder, output_folder=args.output_folder, encoding=encoding, **cut
        ),
        {**cut, **coded, "output_folder": os.path.abspath(args.output_folder)},
        passes=passes,
        depends_on=("timecode_list", "transitions", "clip_prefix", "damaged", "source_digest"),
        key="source_path",
        holds=lambda clip: clip["source_path"] in prefixes and Path(args.output_folder, clip["video_path"]).is_file(),
        discard=remove_unowned,
        done_word="cut",
    )
    process_rows(step, rows, from_flags(RunOptions, args))
    short = sum(
        not long_enough(parse_timecode(a), parse_timecode(b), args.min_seconds)
        for row in rows
        for a, b in row["timecode_list"]
    )
    print(
        f"video_splitting: {short:,} of {sum(len(row['timecode_list']) for row in rows):,} shots are shorter than {args.min_seconds:g} s and dropped"
    )


def check_encoder(encoder: str, preset: str) -> None:
    """Raises: `UsageError` when the encoder cannot be opened on this machine, before any work."""
    context = av.CodecContext.create("h264_nvenc" if encoder == "h264_nvenc" else "libx264", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 320, 240, "yuv420p", Fraction(1, 25)
    context.options = {} if encoder == "h264_nvenc" else {"preset": preset}
    try:
        context.open()
    except av.FFmpegError as error:
        hint = (
            "it needs an NVIDIA GPU and its driver"
            if encoder == "h264_nvenc"
            else f"is {preset!r} one of x264's presets?"
        )
        raise UsageError(f"--encoder {encoder} cannot be opened here ({error.strerror}): {hint}") from None


if __name__ == "__main__":
    run(main)
