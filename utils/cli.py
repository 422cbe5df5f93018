"""Flags: those that scripts share, and their types. The only module of utils/ that knows argparse."""

import argparse
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from utils import __version__
from utils.ending import run as run  # scripts take both from here
from utils.errors import UsageError, help_command, nearest
from utils.rows import refuse_overwriting


class Dataclass(Protocol):
    """Any dataclass, to the type checker."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound="Dataclass")
ENDINGS = (".jsonl", ".csv", ".parquet")  # of files of rows
LARGEST = 1e12  # of any number that a flag takes; an infinity is above it


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the script's docstring as written and shows every default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)  # no "(default: None)"


class ScriptParser(argparse.ArgumentParser):
    """A parser whose errors are one line that points to --help: the usage of some scripts is forty lines long."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}{self._nearest(message)} ({help_command()} lists the flags)\n")

    def _nearest(self, message: str) -> str:
        """Of a flag that does not exist, or a choice, the one that may be meant."""
        if found := re.search(r"unrecognized arguments: (?:[^-]\S* )*(-[^\s=]*)", message):
            return nearest(found[1], self._option_string_actions)
        if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            return nearest(found[1], re.findall(r"[^\s',]+", found[2]))
        return ""


def script_parser(docstring: str) -> argparse.ArgumentParser:
    parser = ScriptParser(description=docstring, formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"Reelset {__version__}")
    return parser


def row_parser(docstring: str, saved_path: str) -> argparse.ArgumentParser:
    """A parser with the flags of every script that takes rows of videos and appends to a result file."""
    parser = script_parser(docstring)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path)
    add_worker_arguments(parser)
    return parser


def add_crop_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--crop_boxes",
        metavar="FILE",
        help="result of compute_crop_box.py: each clip is measured inside its crop_box, so that what gets cropped away does not count against it",
    )


def between(low: float, high: float, kind: type = int, zero: bool = False) -> Callable[[str], float]:
    """An argparse type: a number of `kind` from `low` to `high`, both included; with `zero`, also 0. NaN is no number."""

    def number(text: str):
        value = kind(text)
        if not (low <= value <= high or (zero and value == 0)):
            allowed = f"from {low:g} to {high:g}" if high < LARGEST else f"{low:g} or more"
            raise argparse.ArgumentTypeError(f"{text} is not {'0, or ' if zero else ''}{allowed}")
        return value

    number.__name__ = kind.__name__
    return number


def at_least(low: float, kind: type = int) -> Callable[[str], float]:
    """An argparse type: a finite number of `kind` that is `low` or more."""
    return between(low, LARGEST, kind)


def true_or_false(text: str) -> bool:
    """An argparse type, for flags that EasyAnimate's users write with a value: `--remove_quotes True`."""
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1", "yes")


def bound(text: str) -> float:
    """An argparse type: a number or an infinity, to compare with; NaN compares with nothing."""
    value = float(text)
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text} is not a number")
    return value


bound.__name__ = "float"


def pixels(text: str) -> int:
    """An argparse type: a number of pixels, or WIDTHxHEIGHT."""
    found = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of pixels nor WIDTHxHEIGHT, such as 1280x720")
    return int(found[1]) * int(found[2] or 1)


def file_to_write(text: str) -> str:
    """An argparse type: a path that can be a file's."""
    if os.path.basename(text) in ("", ".", "..") or "\0" in text or os.path.isdir(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the path of a file, but of a folder" if text else "'' is no path"
        )
    return text


def result_file(text: str) -> str:
    """An argparse type: a path whose ending, if it has one, says how rows are written."""
    if os.path.splitext(file_to_write(text))[1].lower() not in ("", *ENDINGS):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return text


def json_file(text: str) -> str:
    """An argparse type: a path of a JSON file, which a list of rows is not."""
    if os.path.splitext(file_to_write(text))[1].lower() not in ("", ".json"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .json")
    return text


file_to_write.__name__ = result_file.__name__ = json_file.__name__ = "file"


def comma_separated(names: Iterable[str]) -> Callable[[str], list[str]]:
    """An argparse type: some of `names`, separated by commas, each once."""

    def listed(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",")]
        if len(set(found)) < len(found) or not set(found) <= set(names):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(names)}, separated by commas")
        return found

    return listed


def json_object(text: str) -> dict:
    """An argparse type."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return found


@dataclass(frozen=True)
class Filter:
    """A column of a score file, or of the list itself where `file` is "", and the bounds within which its value must lie, both included; of a
    list of numbers, their mean.
    """

    file: str
    column: str
    low: float = -math.inf
    high: float = math.inf

    def reasons(self) -> tuple[str, str, str]:
        """Why a clip does not pass: it has no value, one too low, one too high."""
        return f"no {self.column}", f"{self.column} below {self.low:g}", f"{self.column} above {self.high:g}"

    @property
    def settings(self) -> dict[str, Any]:
        """As JSON has it: null for no bound."""
        low, high = (bound if math.isfinite(bound) else None for bound in (self.low, self.high))
        return {"file": self.file, "column": self.column, "low": low, "high": high}


class _Headed(UsageError):
    """A `UsageError` whose message already begins with what it is about."""


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Heads every `UsageError` inside the block with the flag (or variable) that it is about; the innermost wins."""
    try:
        yield
    except _Headed:
        raise
    except UsageError as error:
        raise _Headed(f"{subject}: {error}") from None


def flag(
    default: Any,
    help: str,
    type: Callable[[str], Any] = str,
    choices: Iterable[str] | None = None,
    setting: bool = False,
) -> Any:
    """A dataclass field that `add_flags` makes the flag of the same name; `setting`: results depend on its value.

    A default of False makes a switch, a list takes several values.
    """
    metadata = {"help": help, "type": type, "choices": choices, "setting": setting}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def add_flags(parser: argparse.ArgumentParser, groups: Mapping[str, Any]) -> None:
    """Add a group of --help for each dataclass of `groups`, headed by the first line of its docstring, with a flag for
    each field that `flag` made. Of fields with the same name, the first counts.
    """
    added = set()
    for title, kind in groups.items():
        group = parser.add_argument_group(title, kind.__doc__.splitlines()[0])
        for one in fields(kind):
            if one.name in added:
                continue
            added.add(one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            options = {"default": default, "help": one.metadata["help"]}
            if default is False:
                options["action"] = "store_true"
            else:
                options |= {"type": one.metadata["type"], "choices": one.metadata["choices"]}
                options |= {"nargs": "*"} if isinstance(default, list) else {}
            group.add_argument(f"--{one.name}", **options)


def option_settings(options: Any) -> dict[str, Any]:
    """The values of the fields that are settings, by name."""
    return {one.name: getattr(options, one.name) for one in fields(options) if one.metadata.get("setting")}


def from_flags(kind: type[T], args: argparse.Namespace, **given: Any) -> T:
    """A dataclass whose fields are flags of the same names, or `given`; a field that is neither keeps its default."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind) if field.name in args} | given)


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument(
        "--video_folder",
        help="folder of the videos (or a URL, s3://bucket/folder), searched recursively; or a single video",
    )
    group.add_argument(
        "--video_metadata_path",
        help="list of the videos (txt, csv, jsonl, parquet), with paths relative to --video_folder",
    )
    group.add_argument("--video_path_column", default="video_path", help="column of the list that holds the paths")


def add_output_arguments(parser: argparse.ArgumentParser, saved_path: str) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--saved_path",
        type=result_file,
        default=saved_path,
        help="result file (jsonl, csv or parquet), or its URL; a rerun resumes it",
    )
    group.add_argument(
        "--saved_freq",
        type=at_least(1),
        default=100,
        help="save every N rows, or every five seconds",
    )
    group.add_argument("--overwrite", action="store_true", help="recompute everything instead of resuming")
    group.add_argument("--retry_errors", action="store_true", help="retry failed rows")


def _bounds(file: str, column: str, low: str, high: str) -> tuple[float, float]:
    try:
        return bound("-inf" if low == "none" else low), bound("inf" if high == "none" else high)
    except (ValueError, argparse.ArgumentTypeError):
        raise UsageError(f"--filter {file} {column} {low} {high}: a bound is not a number") from None


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # ranks of one machine share them
    group = parser.add_argument_group("workers")
    group.add_argument("--n_jobs", "--num_workers", type=between(1, 1024), default=cores, help="reader processes")
    group.add_argument(
        "--timeout_seconds",
        type=at_least(0.1, float),
        default=120.0,
        help="CPU seconds allowed per 10 MB or minute of a video; beyond that it becomes an error row",
    )
    group.add_argument(
        "--stall_seconds",
        type=at_least(0.1, float),
        default=120.0,
        help="seconds without progress after which a video becomes an error row",
    )
    group.add_argument(
        "--log_json",
        action="store_true",
        default=os.environ.get("LOG_JSON", "") not in ("", "0"),
        help="log progress as JSON lines on stderr every five seconds, instead of a progress bar (or LOG_JSON=1)",
    )
    group.add_argument(
        "--ray",
        action="store_true",
        default=bool(os.environ.get("RAY_ADDRESS")),
        help="run on the Ray cluster at RAY_ADDRESS, or on a local one without it (docs/scaling.md)",
    )


def add_sampling_arguments(parser: argparse.ArgumentParser, methods: Sequence[str], method: str, count: int) -> None:
    """The flags of `FrameSampling`; `methods` are those that the script knows, `method` and `count` its defaults."""
    group = parser.add_argument_group("sampled frames")
    group.add_argument("--frame_sample_method", choices=methods, default=method, help="how frames are sampled")
    group.add_argument(
        "--num_sampled_frames",
        type=between(1, 10_000),
        default=count,
        help="number of frames for uniform" + (", maximum for keyframe" if "keyframe" in methods else ""),
    )
    group.add_argument(
        "--video_reader",
        choices=["pyav", "decord"],
        default="pyav",
        help="decoding library; decord has no AV1, and videos that it would decode differently become error rows",
    )


def add_filter_arguments(parser: argparse.ArgumentParser, *, motion: bool) -> None:
    """The flags that name score files and thresholds; with `motion`, the motion score's too."""
    group = parser.add_argument_group(
        "filters", "a clip passes if it has a row in every file and every value is within its bounds"
    )
    group.add_argument("--aesthetic_score_metadata_path", "--asethetic_score_metadata_path", metavar="FILE")
    group.add_argument(
        "--aesthetic_score_threshold", "--asethetic_score_threshold", type=bound, default=4.0, help="minimum mean"
    )
    group.add_argument("--text_score_metadata_path", metavar="FILE")
    group.add_argument(
        "--text_score_threshold", type=bound, default=0.02, help="maximum share of the frame covered by text"
    )
    if motion:
        group.add_argument("--motion_score_metadata_path", metavar="FILE")
        group.add_argument(
            "--low_motion_score_threshold",
            type=bound,
            default=1.5,
            help="minimum motion, %% of the short side per second",
        )
        group.add_argument(
            "--high_motion_score_threshold", type=bound, default=25.0, help="maximum motion, in the same unit"
        )
    group.add_argument(
        "--filter",
        nargs=4,
        action="append",
        default=[],
        metavar=("FILE", "COLUMN", "LOW", "HIGH"),
        help="filter by any other score: file, column (or columns joined by |: the first that the file has) and bounds (none: no bound); repeatable",
    )


def refuse_empty(f: Filter) -> None:
    """Raises: `UsageError` for bounds that nothing lies between."""
    if f.low > f.high:
        raise UsageError(f"{f.column}: the lowest value that passes, {f.low:g}, is above the highest, {f.high:g}")


def filters_of(args: argparse.Namespace) -> list[Filter]:
    """What the filter flags say, in the order of the stages.

    Raises: `UsageError` for a bound that is no number, a lowest above its highest, or where a score file is --saved_path.
    """
    filters = [Filter(file, column, *_bounds(file, column, low, high)) for file, column, low, high in args.filter]
    motion_path = getattr(args, "motion_score_metadata_path", None)
    named = [
        (args.aesthetic_score_metadata_path, "aesthetic_score", args.aesthetic_score_threshold, math.inf),
        (args.text_score_metadata_path, "text_score", -math.inf, args.text_score_threshold),
    ]
    if motion_path:
        named.append((motion_path, "motion_score", args.low_motion_score_threshold, args.high_motion_score_threshold))
    filters += [Filter(*one) for one in named if one[0]]
    for f in filters:
        refuse_empty(f)
    refuse_overwriting({"--saved_path": args.saved_path}, {f"the scores {f.file}": f.file for f in filters})
    # What comes from the motion score asks last: the others decided whether it was computed at all.
    return sorted(filters, key=lambda f: (f.file == motion_path, f.column != "motion_score" and f.file == motion_path))
