"""Flags that scripts share, and how a script ends: 0 done, 1 cannot go on, 2 wrong usage, 130 interrupted."""

import argparse
import os
import signal
import sys
from collections.abc import Callable


class UsageError(ValueError):
    """A wrong flag or input, in one sentence for the user."""


class RunError(Exception):
    """What keeps a run from going on though its flags and rows are right (a server that is gone), in one sentence."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the script's docstring as it is written and says every default."""


def script_parser(docstring: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=docstring, formatter_class=HelpFormatter, allow_abbrev=False)


def at_least(low: float, kind: type = int) -> Callable[[str], float]:
    """An argparse type: a number of `kind` that is `low` or more."""

    def number(text: str):
        value = kind(text)
        if not value >= low:
            raise argparse.ArgumentTypeError(f"{text} is below {low}")
        return value

    number.__name__ = kind.__name__
    return number


def true_or_false(text: str) -> bool:
    """An argparse type, for flags that EasyAnimate's users write with a value: `--remove_quotes True`."""
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1", "yes")


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument("--video_folder", help="folder of the videos, searched in all its depth; or one video")
    group.add_argument(
        "--video_metadata_path", help="list of the videos (txt, csv, jsonl), its paths relative to --video_folder"
    )
    group.add_argument("--video_path_column", default="video_path", help="column of the list that holds the paths")


def add_output_arguments(parser: argparse.ArgumentParser, saved_path: str) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--saved_path", default=saved_path, help="result file (jsonl or csv); a rerun resumes it")
    group.add_argument(
        "--saved_freq",
        type=at_least(1),
        default=100,
        help="rows between two writes (or five seconds, whichever is first)",
    )
    group.add_argument("--overwrite", action="store_true", help="start anew instead of resuming")
    group.add_argument("--retry_errors", action="store_true", help="try again what failed before")


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # ranks of one machine share them
    group = parser.add_argument_group("workers")
    group.add_argument("--n_jobs", "--num_workers", type=at_least(1), default=cores, help="processes that read videos")
    group.add_argument(
        "--timeout_seconds",
        type=at_least(0.1, float),
        default=120.0,
        help="time limit a video, for each 10 MB or minute of it begun; past it, an error row",
    )


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def run(main: Callable[[], None]) -> None:
    """Call a script's `main` and turn its ends into exit codes. SIGTERM ends like Ctrl-C: what is done is written
    first.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8, nor the terminal
    try:
        main()
    except UsageError as error:
        print(f"{os.path.basename(sys.argv[0])}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except RunError as error:
        print(f"{os.path.basename(sys.argv[0])}: stopped: {error}", file=sys.stderr)
        print("what is done is saved, and the same command goes on from there", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # an output that cannot be written; a video's own faults are error rows
        print(
            f"{os.path.basename(sys.argv[0])}: error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what is done is saved, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)
