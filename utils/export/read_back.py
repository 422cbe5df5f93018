"""Reading an export as its trainer does, by other code than that which wrote it, and holding every pair against the plan.

A caption on another clip is the one fault that nobody sees until a model has been trained. So each medium is named by its
content, and the caption that a reader finds for it must be that of a clip with this content.
"""

import csv
import json
import sys
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from utils.errors import RunError
from utils.export.formats.entry import Entry
from utils.video_utils import content_digest, digest_of, is_video_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

Pair = tuple[str, str]  # the digest of a medium's content, and its caption


def from_json(name: str, path: str, caption: str) -> Callable[[Path], Iterator[Pair]]:
    def read(folder: Path) -> Iterator[Pair]:
        for item in json.loads((folder / name).read_text(encoding="utf-8")):
            yield _digest(folder, item[path]), item[caption]

    return read


def from_jsonl(folder: Path, name: str, path: str, caption: str) -> Iterator[Pair]:
    with open(folder / name, encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            yield _digest(folder, item[path]), item[caption]


def from_csv(folder: Path) -> Iterator[Pair]:
    csv.field_size_limit(2**31 - 1)
    with open(folder / "train.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        for item in csv.DictReader(file):
            yield _digest(folder, item["path"]), item["text"]


def from_musubi(folder: Path) -> Iterator[Pair]:
    for dataset in _toml(folder / "dataset.toml").get("datasets", []):
        yield from from_jsonl(folder, dataset["video_jsonl_file"], "video_path", "caption")


def from_two_lists(folder: Path) -> Iterator[Pair]:
    prompts, videos = (open(folder / name, encoding="utf-8").readlines() for name in ("prompts.txt", "videos.txt"))
    for prompt, video in zip(prompts, videos, strict=True):
        yield _digest(folder, video.strip()), prompt.strip()


def from_finetrainers(folder: Path) -> Iterator[Pair]:
    if sorted(from_two_lists(folder)) != sorted(from_jsonl(folder, "metadata.jsonl", "file_name", "caption")):
        raise RunError(f"{folder}: prompts.txt and metadata.jsonl do not say the same")
    yield from from_two_lists(folder)


def from_folders(folders_of: Callable[[Path], list[str]]) -> Callable[[Path], Iterator[Pair]]:
    """Videos beside text files, in the folders that the settings name. What trainers keep there, caches and lists, is none."""

    def read(folder: Path) -> Iterator[Pair]:
        for name in folders_of(folder):
            for medium in sorted(path for path in Path(name).iterdir() if is_video_name(path.name)):
                if not medium.with_suffix(".txt").exists():
                    raise RunError(
                        f"{medium} is in the export and has no caption beside it; is it another program's? Move it away"
                    )
                with open(medium.with_suffix(".txt"), encoding="utf-8") as text:
                    yield content_digest(str(medium)), text.read().strip()

    return read


def diffusion_pipe_folders(folder: Path) -> list[str]:
    return [directory["path"] for directory in _toml(folder / "dataset.toml").get("directory", [])]


def simpletuner_folders(folder: Path) -> list[str]:
    backends = json.loads((folder / "multidatabackend.json").read_text(encoding="utf-8"))
    return [backend["instance_data_dir"] for backend in backends if backend["dataset_type"] == "video"]


def ai_toolkit_folders(folder: Path) -> list[str]:
    import yaml  # type: ignore[import-untyped]

    return [
        dataset["folder_path"]
        for dataset in yaml.safe_load((folder / "datasets.yaml").read_text(encoding="utf-8"))["datasets"] or []
    ]


def from_tars(folder: Path) -> Iterator[Pair]:
    for shard in sorted((folder / "shards").glob("*.tar")):
        parts: dict[str, dict[str, str]] = defaultdict(dict)
        with tarfile.open(shard) as tar:
            for member in tar:
                stem, _, ending = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None  # a regular file
                if ending == "txt":
                    parts[stem]["caption"] = content.read().decode()
                elif ending != "json":
                    parts[stem]["medium"] = digest_of(content)
        for part in parts.values():
            yield part["medium"], part["caption"]


def from_parquet(folder: Path) -> Iterator[Pair]:
    from pyarrow import parquet

    file = parquet.ParquetFile(folder / "data.parquet")
    for item in file.read(columns=["file", "caption"]).to_pylist() if file.metadata.num_rows else ():
        yield _digest(folder, item["file"]), item["caption"]


READERS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "easyanimate": from_json("train.json", "file_path", "text"),
    "videox_fun": from_json("train.json", "file_path", "text"),
    "musubi": from_musubi,
    "diffusion_pipe": from_folders(diffusion_pipe_folders),
    "ltx2": from_json("dataset.json", "video", "caption"),
    "ltx_video": from_json("dataset.json", "media_path", "caption"),
    "opensora": from_csv,
    "finetrainers": from_finetrainers,
    "diffusers": from_two_lists,
    "diffsynth": from_json("metadata.json", "video", "prompt"),
    "simpletuner": from_folders(simpletuner_folders),
    "ai_toolkit": from_folders(ai_toolkit_folders),
    "hf": lambda folder: from_jsonl(folder, "metadata.jsonl", "file_name", "caption"),
    "webdataset": from_tars,
    "parquet": from_parquet,
}


def check(folder: Path, format: str, entries: Sequence[Entry], digests: Sequence[str]) -> None:
    """Read all pairs and hold them against `entries`, whose media have these `digests`.

    Raises: `RunError` where one is missing, more than planned, or another clip's.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for entry, digest in zip(entries, digests, strict=True):
        wanted[digest].append(entry.caption)
    count = 0
    for digest, caption in READERS[format](folder):
        count += 1
        captions = wanted.get(digest, [])
        found = (
            caption if caption in captions else caption.removesuffix(" ")
        )  # what tells a csv's cell from a missing one
        if found not in captions:
            raise RunError(
                f"{folder}: read back as {format}, a clip has the caption {caption[:80]!r}, and should have {[c[:80] for c in captions]!r}; please report"
            )
        captions.remove(found)
    if count != len(entries):
        raise RunError(
            f"{folder}: {count:,} pairs read back as {format}, and {len(entries):,} are planned; does another program write there?"
        )


def _digest(folder: Path, path: str) -> str:
    return content_digest(str(folder / path))


def _toml(path: Path) -> dict:
    with open(path, "rb") as file:
        return tomllib.load(file)
