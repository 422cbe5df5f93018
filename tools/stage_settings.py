"""The settings of the stage scripts: one table behind `--help`, the checks before any work, and docs/settings.md.

    python -m tools.stage_settings markdown > docs/settings.md

Each stage calls it with its number. With --help it prints the settings of that stage; otherwise it checks the arguments (NAME=VALUE) and the
environment and prints the arguments as shell `export` lines, or an error message and exit code 2.
Only the standard library is imported until a condition has to be checked, because the stages call this before they know which packages are installed.
"""

import difflib
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from utils.errors import UsageError, nearest

ROOT = Path(__file__).resolve().parent.parent
FOR_ALL_PRESETS = ("bounds", "commands", "foreground", "settings", "thresholds")  # of that folder
PRESETS = sorted({path.stem for path in (ROOT / "presets").glob("*.sh")} - {*FOR_ALL_PRESETS})


@dataclass(frozen=True)
class Kind:
    """Allowed values: one of `choices`, or a number from `low` to `high`; `meaning` completes "... is 'x', not ..."."""

    meaning: str = "a text"
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float = math.inf
    whole: bool = False
    is_bound: bool = False  # `none` is allowed, too
    is_list: bool = False  # of choices, separated by spaces
    test: Callable[[str], bool] | None = None

    def fits(self, value: str) -> bool:
        if self.choices:
            return all(word in self.choices for word in (value.split() if self.is_list else [value]))
        if self.test:
            return self.test(value)
        if self.low is None or (self.is_bound and value == "none"):
            return True
        try:
            number = float(value)
        except ValueError:
            return False
        return math.isfinite(number) and self.low <= number <= self.high and (not self.whole or number == int(number))


def one_of(*choices: str) -> Kind:
    return Kind(f"one of {', '.join(choices)}", choices)


def some_of(*choices: str) -> Kind:
    return Kind(f"some of {', '.join(choices)}", choices, is_list=True)


def number(low: float, high: float = math.inf, whole: bool = False) -> Kind:
    what = "a whole number" if whole else "a number"
    return Kind(
        f"{what} from {low:g} to {high:g}" if high < math.inf else f"{what}, {low:g} or more", (), low, high, whole
    )


def bound(low: float = -1e12, high: float = 1e12) -> Kind:
    """A number, or none for no bound."""
    what = (
        "a number"
        if low == -1e12
        else f"a number from {low:g} to {high:g}"
        if high < 1e12
        else f"a number, {low:g} or more"
    )
    return Kind(f"{what}, or none for no bound", (), low, high, is_bound=True)


def written_as(meaning: str, pattern: str) -> Kind:
    return Kind(meaning, test=lambda value: bool(re.fullmatch(pattern, value, re.ASCII)))


def at_path(meaning: str, test: Callable[[str], bool]) -> Kind:
    """The scripts check what is behind a URL."""
    return Kind(meaning, test=lambda value: "://" in value or test(value))


def _is_prompt(value: str) -> bool:
    """Ending in .txt, it is a file: in this folder, in prompts/ or in the project."""
    return not value.endswith(".txt") or any(
        os.path.isfile(folder / value) for folder in (Path(), ROOT / "prompts", ROOT)
    )


def _is_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


TEXT, SWITCH, SHARE = Kind(), one_of("0", "1"), bound(0, 1)
PIXELS = written_as("a number of pixels or WIDTHxHEIGHT", r"\d{1,9}([xX]\d{1,9})?")
URL = written_as("an address such as http://localhost:8000/v1", r"https?://\S+")
LENGTHS = written_as("some of short, long, tags, separated by commas", r"(short|long|tags)(,(short|long|tags)){0,2}")
FILE = at_path("an existing file", lambda value: os.path.exists(value) and not os.path.isdir(value))
CAPTIONS = at_path("an existing file or folder", os.path.exists)
FOLDER = at_path("a folder", lambda value: not os.path.exists(value) or os.path.isdir(value))
PROMPT = Kind("a text, or an existing .txt file, here or in prompts/", test=_is_prompt)
JSON = Kind("a JSON object", test=_is_json)


@dataclass(frozen=True)
class Setting:
    """An environment variable or an argument NAME=VALUE; the `stages` that read it; `default` as shown to the user."""

    name: str
    stages: str
    default: str
    help: str
    kind: Kind = TEXT


SETTINGS = [
    Setting("DATASET_FOLDER", "123", "datasets/panda_70m", "dataset root: a folder, or a URL such as s3://bucket/set", FOLDER),
    Setting("VIDEO_FOLDER", "123", "before_vcut/ in stage 1, else train/", "folder of the videos that the stage reads"),
    Setting("VIDEO_METADATA_PATH", "23", "clips.jsonl, train.jsonl", "list of the clips in VIDEO_FOLDER"),
    Setting("OUTPUT_FOLDER", "1", "train/", "folder that the clips are written to", FOLDER),
    Setting("PRESET", "123", "auto", "models and thresholds; auto picks gpu if there are a CUDA device and its packages, else embedded", one_of("auto", *PRESETS)),
    Setting("MIN_SECONDS", "12", "3", "minimum clip length, seconds", number(0.1)),
    Setting("MAX_SECONDS", "12", "10", "maximum clip length, seconds", number(0.1)),
    Setting("DETECTOR", "1", "fitted", "shot detector", one_of("fitted", "both", "transitions", "adaptive", "content", "hash", "histogram", "threshold", "transnetv2")),
    Setting("CUTSCENE_THRESHOLD", "1", "the detector's", "threshold of DETECTOR, in its own unit", number(0)),
    Setting("ENCODER", "1", "smart", "how clips are written; smart copies whole GOPs", one_of("smart", "libx264", "h264_nvenc", "copy")),
    Setting("LONG_SHOTS", "1", "keyframe", "how shots longer than MAX_SECONDS are split", one_of("keyframe", "even", "greedy")),
    Setting("PREFER_PAUSES", "1", "0", "1 splits long shots at pauses in speech where possible", SWITCH),
    Setting("RESOLUTION_THRESHOLD", "1", "0", "minimum pixels of a source frame, or WIDTHxHEIGHT; smaller sources are dropped", PIXELS),
    Setting("REMOVE_ORPHANS", "1", "0", "1 removes clips of earlier runs whose source was deleted, renamed or is now cut differently", SWITCH),
    Setting("CROP", "2", "1", "0 disables cropping; 1 crops away bars, subtitles and logos, and clips are scored within the crop", SWITCH),
    Setting("MIN_CROP_SHARE", "2", "0.88", "minimum share of the frame, bars excluded, that a crop must keep", SHARE),
    Setting("MIN_SHORT_SIDE", "2", "256", "minimum short side of a clip after the crop, pixels", number(0, whole=True)),
    Setting("OVERLAY_TEXT_THRESHOLD", "2", "0.002", "maximum share of the crop covered by overlaid text", SHARE),
    Setting("METRICS", "2", "by preset", "quality metrics", some_of("TechnicalScore", "NSFWScore", "AestheticScore", "AestheticScoreSigLIP", "CLIPScore", "SemanticConsistency")),
    Setting("QUALITY_SCORE", "2", "by preset", "column of METRICS to filter by"),
    Setting("QUALITY_THRESHOLD", "2", "4", "minimum QUALITY_SCORE", bound()),
    Setting("TECHNICAL_SCORE_THRESHOLD", "2", "4", "alias of QUALITY_THRESHOLD with the embedded preset", bound(0, 10)),
    Setting("NSFW_THRESHOLD", "2", "0.8", "maximum nsfw_score, if METRICS includes NSFWScore", SHARE),
    Setting("TEXT_SCORE_THRESHOLD", "2", "none; 0.02 with CROP=0 and the presets cpu and gpu", "maximum share of the frame covered by text of any kind", SHARE),
    Setting("TEXT_DETECTOR", "2", "by preset", "text detector", one_of("rapidocr", "easyocr")),
    Setting("MOTION_ESTIMATOR", "2", "dis", "optical flow algorithm; farneback gives EasyAnimate's score", one_of("dis", "farneback")),
    Setting("ACTIVITY_THRESHOLD", "2", "1.5", "minimum activity (motion of camera or subject), % of the short side per second", bound(0)),
    Setting("LOW_MOTION_SCORE_THRESHOLD", "2", "none", "minimum motion_score (mean motion over the frame), same unit", bound(0)),
    Setting("HIGH_MOTION_SCORE_THRESHOLD", "2", "25", "maximum motion_score (mean motion over the frame), same unit", bound(0)),
    Setting("CUT_INSIDE", "2", "ask", "which clips TransNetV2 re-checks for missed cuts: auto = clips not cut by stage 1, ask = these and clips where optical flow is unsure, network = all, flow = none", one_of("ask", "auto", "network", "flow")),
    Setting("CUT_INSIDE_THRESHOLD", "2", "0.5", "maximum cut_inside, the confidence that a cut was missed", SHARE),
    Setting("AUDIO", "2", "0", "1 measures the audio and drops clips without audible audio", SWITCH),
    Setting("LOUDNESS_THRESHOLD", "2", "-40", "with AUDIO=1: minimum loudness, LUFS; a clip without audio has -70", bound(-70)),
    Setting("SILENT_SHARE_THRESHOLD", "2", "0.5", "with AUDIO=1: maximum share of the clip that is silent", SHARE),
    Setting("CLIPPING_SHARE_THRESHOLD", "2", "0.01", "with AUDIO=1: maximum share of samples at full scale", SHARE),
    Setting("SPEECH_SHARE_THRESHOLD", "2", "none", "with AUDIO=1: minimum share of the clip with speech", SHARE),
    Setting("SPEECH_AT_EDGES", "2", "1", "with AUDIO=1: 0 drops clips that begin or end mid-speech", SWITCH),
    Setting("DEDUP", "2", "0", "1 keeps only the best clip of each near-duplicate group", SWITCH),
    Setting("WHERE", "2", "none", "SQL condition over all columns; only clips that meet it are kept"),
    Setting("COLUMNS_FROM", "2", "none", "extra file whose columns WHERE can use", FILE),
    Setting("EXCLUDE", "2", "none", "clips to drop: a list, or the marks of a report", FILE),
    Setting("INCLUDE", "2", "none", "clips to keep whatever the filters say: a list, or the marks of a report", FILE),
    Setting("QUALITY_MODEL_PATH", "2", "from the hub", "CLIP weights"),
    Setting("TEXT_MODEL_PATH", "2", "downloaded once", "EasyOCR weights"),
    Setting("VLM_QUESTIONS", "2", "none", "questions for a vision-language model (VLM): a file, or a set in prompts/questions/"),
    Setting("VLM_TOGETHER", "2", "0", "1 asks all questions about a clip in one request", SWITCH),
    Setting("CAPTIONER", "3", "by preset", "captioning backend", one_of("attributes", "transformers", "vllm", "openai")),
    Setting("SUMMARIZER", "3", "by preset", "backend that merges frame captions into one", one_of("none", "attributes", "transformers", "vllm", "openai")),
    Setting("ENGINE", "3", "vllm if installed, else transformers", "inference engine of the presets gpu and vlm", one_of("transformers", "vllm", "openai")),
    Setting("IMAGE_CAPTION_MODEL", "23", "by preset", "VLM: a short name from docs/captions.md, a hub id or a local folder"),
    Setting("SUMMARY_MODEL", "3", "by preset", "LLM that merges frame captions: named likewise"),
    Setting("IMAGE_CAPTION_PROMPT", "3", "from prompts/", "captioning prompt: text, or a .txt file, e.g. one of prompts/", PROMPT),
    Setting("SUMMARY_PROMPT", "3", "from prompts/", "summary prompt: text, or a .txt file, e.g. one of prompts/", PROMPT),
    Setting("CAPTION_UNIT", "3", "frame, or clip by preset", "one caption per frame, or one per clip", one_of("frame", "clip")),
    Setting("STYLES", "3", "none", "several captions in one answer: short,long,tags", LENGTHS),
    Setting("WITH_AUDIO", "3", "0", "1 also sends the clips' audio, to a server whose model takes audio", SWITCH),
    Setting("CAPTIONS_FROM", "3", "none", "captions made elsewhere: a file, or a folder of .txt", CAPTIONS),
    Setting("REWRITE", "3", "none", "a second prompt that rewrites the summary", one_of("tags", "dense", "json", "chinese")),
    Setting("MAX_WORDS", "3", "none", "maximum words per caption", number(1, whole=True)),
    Setting("REMOVE_QUOTES", "3", "0", "1 removes quotation marks from captions", SWITCH),
    Setting("APPEND_ATTRIBUTES", "3", "0", "1 appends measured attributes to captions", SWITCH),
    Setting("TRIGGER_WORD", "3", "none", "word prepended to every caption"),
    Setting("CAPTION_PREFIX", "3", "none", "text added before every caption"),
    Setting("CAPTION_SUFFIX", "3", "none", "text added after every caption"),
    Setting("FRAME_SAMPLE_METHOD", "3", "by preset", "how the frames to caption are sampled", one_of("uniform", "mid", "first", "last", "keyframe")),
    Setting("NUM_SAMPLED_FRAMES", "3", "by preset", "number of sampled frames", number(1, 10_000, whole=True)),
    Setting("SKIP_SIGHT_CHECK", "23", "0", "1 skips the test image that checks whether the model can see", SWITCH),
    Setting("ENGINE_SERVER", "3", "none", "model server that stage 3 starts and stops", one_of("vllm", "sglang", "lmdeploy", "transformers")),
    Setting("BASE_URL", "23", "none", "URL of a server that is already running, for CAPTIONER=openai", URL),
    Setting("SERVER_ARGS", "3", "none", "extra flags for ENGINE_SERVER"),
    Setting("ENGINE_ARGS", "3", "none", "extra engine arguments, as JSON", JSON),
    Setting("CONCURRENCY", "3", "by engine", "concurrent requests to the server", number(1, whole=True)),
    Setting("BATCH_SIZE", "3", "8 with the preset gpu", "clips per batch with transformers", number(1, whole=True)),
    Setting("TENSOR_PARALLEL_SIZE", "3", "1", "GPUs per copy of the model", number(1, whole=True)),
    Setting("QUANTIZATION", "23", "none", "vLLM quantization: fp8, awq, ..."),
    Setting("MAX_MODEL_LEN", "3", "the model's", "maximum tokens of prompt and answer", number(1, whole=True)),
    Setting("TEMPERATURE", "3", "0", "sampling temperature; 0 means greedy decoding", number(0)),
    Setting("SEED", "3", "0", "base sampling seed", number(0, whole=True)),
    Setting("FORMAT", "3", "none", "trainer to export the set for, too (docs/export.md)"),
    Setting("MODEL", "3", "none", "video model to encode the clips for (docs/export.md)"),
    Setting("MEDIA", "3", "encode with MODEL, else link", "how clips get into the export", one_of("none", "link", "copy", "encode")),
    Setting("MAX_UPSCALE", "3", "none", "leave out clips that the export would upscale by more; the plan counts those above 1.5", number(1)),
    Setting("VAL_SHARE", "3", "0", "share of the set held out for validation", number(0, 0.5)),
    Setting("EXPORT_AUDIO", "3", "keep", "audio in the export; split writes one set with audio and one without", one_of("keep", "drop", "require", "split")),
    Setting("EXPORT_BATCH_SIZE", "3", "none", "the trainer's batch size: buckets with fewer clips are given up", number(1, whole=True)),
    Setting("EXPORT_CAPTION", "3", "first; all if the trainer takes several", "which of a clip's several captions to use", one_of("first", "longest", "random")),
    Setting("FIRST_FRAMES", "3", "0", "1 also writes each clip's first frame into the export", SWITCH),
    Setting("MAX_PER_SOURCE", "3", "none", "maximum clips per source video in the export", number(1, whole=True)),
    Setting("BALANCE", "3", "none", "column to balance: no value gets more clips in the export than the rarest one"),
    Setting("EXPORT_FOLDER", "3", "FORMAT-MODEL in DATASET_FOLDER", "folder of the export", FOLDER),
    Setting("REPORT", "123", "1", "0 skips report.html", SWITCH),
    Setting("VIDEO_READER", "23", "pyav", "library that decodes sampled frames", one_of("pyav", "decord")),
    Setting("N_JOBS", "123", "CPU cores", "reader processes", number(1, 1024, whole=True)),
    Setting("TIMEOUT_SECONDS", "123", "120", "CPU seconds allowed per 10 MB or minute of a video", number(0.1)),
    Setting("STALL_SECONDS", "123", "120", "seconds without progress after which a video is given up", number(0.1)),
    Setting("OVERWRITE", "123", "0", "1 recomputes everything", SWITCH),
    Setting("RETRY_ERRORS", "123", "0", "1 retries failed rows", SWITCH),
    Setting("LOG_JSON", "123", "0", "1 logs progress as JSON lines on stderr", SWITCH),
    Setting("GPUS", "123", "all visible", "GPUs to use", number(0, whole=True)),
    Setting("NUM_PROCESSES", "123", "GPUS", "ranks of scripts that run a model", number(1, whole=True)),
    Setting("LAUNCHER", "123", "torchrun with several ranks, ray if RAY_ADDRESS is set", "how ranks are started", one_of("none", "torchrun", "accelerate", "ray")),
    Setting("NNODES", "123", "1", "number of machines", number(1, whole=True)),
    Setting("NODE_RANK", "123", "0", "rank of this machine", number(0, whole=True)),
    Setting("MASTER_ADDR", "123", "none", "address of the machine with rank 0"),
    Setting("MASTER_PORT", "123", "29500", "port on MASTER_ADDR", number(1, 65_535, whole=True)),
    Setting("RAY_ADDRESS", "123", "none", "address of a Ray cluster"),
    Setting("PYTHON", "123", ".venv/bin/python", "Python interpreter"),
]  # fmt: skip
SHORTEST = 7  # minimum letters of a setting checked for misspelling: MODELS and FORMATS are common names elsewhere
BY_NAME = {setting.name: setting for setting in SETTINGS}
SCRIPTS = {"1": "stage_1_video_cut.sh", "2": "stage_2_filter_data.sh", "3": "stage_3_video_caption.sh"}


class Wrong(Exception):
    """An invalid setting; the message is shown to the user."""


# Set by the report's command itself, or valid for one run or its machines only.
NOT_CARRIED = {
    "DATASET_FOLDER", "VIDEO_FOLDER", "VIDEO_METADATA_PATH", "PRESET", "MIN_SECONDS", "MAX_SECONDS", "WHERE", "COLUMNS_FROM", "EXCLUDE", "INCLUDE",
    "CAPTIONS_FROM", "OVERWRITE", "RETRY_ERRORS", "LOG_JSON", "REPORT", "GPUS", "NUM_PROCESSES", "LAUNCHER", "NNODES", "NODE_RANK", "MASTER_ADDR",
    "MASTER_PORT", "RAY_ADDRESS", "FORMAT", "MODEL", "MEDIA", "VAL_SHARE", "EXPORT_FOLDER", "EXPORT_AUDIO", "MAX_UPSCALE",
    "EXPORT_BATCH_SIZE", "EXPORT_CAPTION", "FIRST_FRAMES", "MAX_PER_SOURCE", "BALANCE",
}  # fmt: skip


def carried(stage: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that a later run of a stage needs to resume this one's results; a report's own bounds take precedence."""
    names = [setting.name for setting in SETTINGS if stage in setting.stages and setting.name not in NOT_CARRIED]
    return {name: environment[name] for name in names if environment.get(name)}


# What a run has of its own, not of its dataset: the next one is somebody's choice.
OF_ONE_RUN = {"DATASET_FOLDER", "VIDEO_FOLDER", "PRESET", "OVERWRITE", "RETRY_ERRORS", "LOG_JSON", "PYTHON"}


def repeated(stages: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings with which stages make the same of a dataset again, from any folder."""
    found = {}
    for setting in SETTINGS:
        value = environment.get(setting.name)
        if value and setting.name not in OF_ONE_RUN and set(stages) & set(setting.stages):
            is_path = setting.kind in (FILE, FOLDER, CAPTIONS) or (setting.kind is PROMPT and os.path.isfile(value))
            found[setting.name] = os.path.abspath(value) if is_path and "://" not in value else value
    return found


def given(stage: str, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The settings among the arguments. Raises: `Wrong` for an unknown argument or variable, or an invalid value."""
    found = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise Wrong(f"{argument!r} is not NAME=VALUE; {_help_command(stage)} lists the settings")
        if name not in BY_NAME:
            raise Wrong(
                f"unknown setting {name}{nearest(name.strip('- ').upper(), BY_NAME, 0.5)}; {_help_command(stage)} lists them"
            )
        found[name] = value
    for name in sorted(environment.keys() - BY_NAME.keys()):
        if near := _misspelled(name, environment[name]):
            raise Wrong(f"{name} is set but is no setting: did you mean {near}? If not, unset {name}")
    for name, value in {**{n: environment[n] for n in BY_NAME if n in environment}, **found}.items():
        if value and not BY_NAME[name].kind.fits(value):
            kind = BY_NAME[name].kind
            raise Wrong(f"{name} is {value!r}, not {kind.meaning}{nearest(value, kind.choices)}")
    return found


def _help_command(stage: str) -> str:
    """As it can be pasted where the user is."""
    script = SCRIPTS[stage] if Path.cwd() == ROOT else str(ROOT / SCRIPTS[stage])
    return f"sh {shlex.quote(script)} --help"


def _misspelled(name: str, value: str) -> str | None:
    """The setting that a variable's name misspells: within two edits of a long name, one of a shorter one, or in other case. Other variables
    are not ours. A short name counts if it has an underscore, as N_JOBS, or if the value is one of the setting's choices.
    """
    if name.upper() in BY_NAME:
        return name.upper() if "_" in name else None
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{3,}", name):
        return None
    for near in difflib.get_close_matches(name, BY_NAME, 1, 0.8):
        is_meant = len(near) >= SHORTEST or "_" in near or value in BY_NAME[near].kind.choices
        if is_meant and slips(name, near) <= (2 if len(near) >= 10 else 1):
            return near
    return None


def slips(one: str, other: str) -> int:
    """Edit distance with swaps of neighbouring letters (optimal string alignment)."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


def help_of(stage: str) -> str:
    """The header comment of a stage script and its settings."""
    lines = (ROOT / SCRIPTS[stage]).read_text(encoding="utf-8").splitlines()[1:]
    head = [line[2:] if line.startswith("# ") else "" for line in lines[: lines.index("set -eu")]]
    taken = [setting for setting in SETTINGS if stage in setting.stages]
    width = max(len(setting.name) for setting in taken)
    rows = [f"  {s.name:{width}}  {s.help}{_values(s)} (default: {s.default})" for s in taken]
    return "\n".join(
        [
            *head,
            "",
            f"settings, as environment variables or as arguments: sh {SCRIPTS[stage]} NAME=VALUE ...",
            *rows,
        ]
    )


def _values(setting: Setting) -> str:
    choices = setting.kind.choices
    if not choices or choices == ("0", "1"):
        return ""
    return f"; {'any' if setting.kind.is_list else 'one'} of {', '.join(choices)}"


def markdown() -> str:
    """docs/settings.md."""
    head = """# Settings of the stage scripts

Set them as environment variables or as arguments: `sh stage_2_filter_data.sh MIN_SHORT_SIDE=480 DEDUP=1`. Unknown names and invalid values are errors, reported before any work.
`sh stage_2_filter_data.sh --help` prints the settings of one stage. This page is printed by `python -m tools.stage_settings markdown`.

| setting | stages | default | meaning |
|---|---|---|---|
"""
    cell = "| `{}` | {} | {} | {} |"
    rows = [
        cell.format(s.name, ", ".join(s.stages), s.default, (s.help + _values(s)).replace("|", "\\|")) for s in SETTINGS
    ]
    return head + "\n".join(rows) + "\n"


def check_condition(where: str, environment: Mapping[str, str]) -> None:
    """Raises: `Wrong` if WHERE is not a condition, or names a column that no list and no score has; without a list, those of any clip count."""
    from utils.pipeline.condition import parse_condition
    from utils.pipeline.row_list import rows_in
    from utils.rows.columns import COLUMNS
    from utils.storage import exists

    columns: dict[str, None] = {}
    for script in (
        "compute_crop_box",
        "compute_video_frame_quality",
        "compute_text_score",
        "compute_audio_score",
        "compute_motion_score",
        "compute_duplicates",
    ):
        columns |= dict.fromkeys(import_module(script).SCORE.columns)
    folder = environment.get("DATASET_FOLDER") or str(ROOT / "datasets" / "panda_70m")
    clips = environment.get("VIDEO_METADATA_PATH") or f"{folder}/clips.jsonl"
    if environment.get("VLM_QUESTIONS"):
        return  # whose columns are the questions' names
    try:
        found = [path for path in (clips, environment.get("COLUMNS_FROM")) if path and exists(path)]
        if clips not in found:
            columns |= dict.fromkeys(("video_path", "source_path", "codec", *COLUMNS))
        for path in found:
            for row in rows_in(path).head(1000):
                columns |= dict.fromkeys(row)
        parse_condition(where, [*columns, "duration", "short_side", "pixels"])
    except UsageError as error:
        raise Wrong(str(error).replace("--where", "WHERE")) from None


def check_pairs(chosen: Mapping[str, str]) -> None:
    """Raises: `Wrong` for a minimum above its maximum."""
    for low, high in (("MIN_SECONDS", "MAX_SECONDS"), ("LOW_MOTION_SCORE_THRESHOLD", "HIGH_MOTION_SCORE_THRESHOLD")):
        lowest, highest = (chosen.get(name) or BY_NAME[name].default for name in (low, high))
        if "none" not in (lowest, highest) and float(lowest) > float(highest):
            raise Wrong(f"{low} is {lowest}, above {high}, {highest}: set both")
    rank, machines = (chosen.get(name) or BY_NAME[name].default for name in ("NODE_RANK", "NNODES"))
    if int(float(rank)) >= int(float(machines)):
        raise Wrong(f"NODE_RANK is {rank}, and machines are numbered from 0 to NNODES - 1; NNODES is {machines}")


def check_lists(chosen: Mapping[str, str]) -> None:
    """Raises: `Wrong` where a file that chooses clips has no rows of clips."""
    from utils.rows import rows_of

    name = ""
    try:
        for name in {"EXCLUDE", "INCLUDE", "COLUMNS_FROM"} & chosen.keys():
            if "://" not in chosen[name]:
                next(rows_of(chosen[name], ("video_path",)), None)
    except UsageError as error:
        raise Wrong(f"{name}: {error}") from None


def check_quality(column: str, metrics: Sequence[str]) -> None:
    """Raises: `Wrong` for a QUALITY_SCORE that none of METRICS gives."""
    scored_by = import_module("compute_video_frame_quality").METRICS
    columns = [name for metric in metrics for name in scored_by[metric].columns]
    if column not in columns:
        raise Wrong(
            f"QUALITY_SCORE is {column!r}, not one of what {' '.join(metrics)} gives: {', '.join(columns)}{nearest(column, columns)}"
        )


def check_questions(names: str) -> None:
    """Raises: `Wrong` if a VLM_QUESTIONS file is missing or has no questions."""
    from utils.captioning.question_sets import read_questions

    try:
        for name in names.split():
            read_questions(name)
    except UsageError as error:
        raise Wrong(f"VLM_QUESTIONS: {error}") from None


def check_export(format: str, model: str) -> None:
    """Raises: `Wrong` for an unknown FORMAT or MODEL, or a MODEL that the trainer does not support."""
    from utils.export.formats import FORMATS
    from utils.export.models import MODELS
    from utils.export.trainers import models_of, trainers_of

    for name, value, known in (("FORMAT", format, list(FORMATS)), ("MODEL", model, list(MODELS))):
        if value and value not in known:
            raise Wrong(f"{name} is {value!r}, not one of {', '.join(known)}{nearest(value, known)}")
    if model and model not in models_of(format or "easyanimate"):
        raise Wrong(
            f"{format or 'easyanimate'} does not train {model}; set FORMAT to one of {', '.join(trainers_of(model))}"
        )


def check(stage: str, found: Mapping[str, str]) -> None:
    """What this stage and those after it need of the environment and of the settings `found` among the arguments. Raises: `Wrong`."""
    chosen = {name: value for name, value in {**os.environ, **found}.items() if value}
    check_pairs(chosen)
    if stage != "3":
        if {"EXCLUDE", "INCLUDE", "COLUMNS_FROM"} & chosen.keys():
            check_lists(chosen)
        if "VLM_QUESTIONS" in chosen:
            check_questions(chosen["VLM_QUESTIONS"])
        if "WHERE" in chosen:
            check_condition(chosen["WHERE"], chosen)
    if {"FORMAT", "MODEL"} & chosen.keys():
        check_export(chosen.get("FORMAT", ""), chosen.get("MODEL", ""))


def main(arguments: Sequence[str]) -> int:
    stage, *rest = arguments
    if stage == "markdown":
        print(markdown(), end="")
        return 0
    if {"-h", "--help"} & set(rest):
        print(help_of(stage))
        return 0
    found = {}
    try:
        if stage == "quality":
            check_quality(rest[0], rest[1:])
            return 0
        found = given(stage, rest, os.environ)
        check(stage, found)
    except Wrong as wrong:
        print(f"{SCRIPTS.get(stage, 'METRICS')}: {wrong}", file=sys.stderr)
        return 2
    for name, value in found.items():
        print(f"export {name}={shlex.quote(value)}")
    for setting in SETTINGS:  # the stages ask whether a switch is set
        if setting.kind is SWITCH and setting.default == found.get(setting.name, os.environ.get(setting.name)) == "0":
            print(f"unset {setting.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
