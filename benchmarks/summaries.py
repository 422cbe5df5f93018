"""Summaries by a language model, with the prompt and the checks of version 0.2.0 and with those of today: what comes of the
same frame captions.

    python -m benchmarks.summaries --video_metadata_path frame_caption.jsonl --model ./SmolLM2-135M-Instruct
    python -m benchmarks.summaries --video_metadata_path frame_caption.jsonl --model Qwen2.5-7B-Instruct --engine vllm --rows 50

`new words` is the share of a caption's words of five letters and more that no description has, the median of all captions:
what was rephrased or made up.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from utils.captioning.answer_checks import checks_for, count_words
from utils.captioning.chat import Answer
from utils.captioning.prompts import DESCRIPTIONS, STYLES, prompt_text
from utils.rows import read_rows

ROOT = Path(__file__).resolve().parents[1]
STYLE = STYLES["summary"]
SIDES = {
    "0.2.0": (STYLE.former, ["--answer_checks", "cut", "empty", "refusal", "--over_length", "error"]),
    "today": (STYLE.prompt, []),
}


def summaries(
    arguments: argparse.Namespace, source: Path, prompt: str, flags: list[str], folder: Path
) -> tuple[list, list]:
    """The rows and the error rows that the script makes."""
    saved = folder / "summary.jsonl"
    command = [sys.executable, "caption_summary.py", "--video_metadata_path", source, "--saved_path", saved]
    command += ["--summarizer", arguments.engine, "--summary_model_name", arguments.model, "--summary_prompt", prompt]
    command += ["--max_words", STYLE.max_words, "--overwrite", *flags]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    errors = saved.with_suffix(".errors.jsonl")
    return list(read_rows(saved)), list(read_rows(errors)) if errors.exists() else []


def new_words(caption: str, descriptions: list[str]) -> float:
    """The share of the caption's words of five letters and more that its descriptions do not have."""
    had = set(re.findall(r"\w+", " ".join(descriptions).lower()))
    said = [word for word in re.findall(r"\w{5,}", caption.lower()) if word != "video"]
    return sum(word not in had for word in said) / len(said) if said else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video_metadata_path", type=Path, required=True, help="result of caption_video_frame.py")
    parser.add_argument("--model", required=True, help="as --summary_model_name")
    parser.add_argument("--engine", default="transformers", help="as --summarizer (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="only the first so many")
    parser.add_argument("--show", action="store_true", help="print every caption, both sides")
    args = parser.parse_args()
    columns: dict[str, list] = {}
    shown: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as made:
        source = Path(made, "rows.jsonl")
        lines = args.video_metadata_path.read_text(encoding="utf-8").splitlines(keepends=True)[: args.rows]
        source.write_text("".join(lines), encoding="utf-8")
        given = {row["video_path"]: row["sampled_frame_caption"] for row in read_rows(source)}
        for side, (prompt, flags) in SIDES.items():
            rows, errors = summaries(args, source, prompt, flags, Path(made))
            captions = [row["summary_caption"] for row in rows]
            asked = prompt_text(prompt).replace(DESCRIPTIONS, "")
            faults = {name: checks_for([name], asked)[0] for name in ("talk", "echo", "loop")}
            columns[side] = [
                len(lines), len(rows), len(errors), sum("summary_cut_from" in row for row in rows),
                *(sum(check(Answer(caption)) is not None for caption in captions) for check in faults.values()),
                sum(caption.startswith("In this video") for caption in captions),
                sum(bool(re.search(r"\b(images?|photos?|pictures?|frames?)\b", caption, re.I)) for caption in captions),
                statistics.median(map(count_words, captions)) if captions else "-",
                f"{100 * statistics.median(new_words(r['summary_caption'], given[r['video_path']]) for r in rows):.0f} %"
                if rows else "-",
            ]  # fmt: skip
            for row in rows:
                shown.setdefault(row["video_path"], []).append(f"{side}: {row['summary_caption']}")
            for row in errors:
                shown.setdefault(row["video_path"], []).append(f"{side}: error: {row['message']}")
    names = [
        "descriptions", "captions", "error rows", "cut at a sentence's end", "talk about the task", "repeat the prompt",
        "repeat themselves", 'begin with "In this video"', "speak of an image or frame", "words, median", "new words",
    ]  # fmt: skip
    if args.show:
        for video, both in shown.items():
            print(video, *both, sep="\n    ")
    print(f"| {args.model} | {' | '.join(columns)} |\n| --- | ---: | ---: |")
    for name, *cells in zip(names, *columns.values()):
        print(f"| {name} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
