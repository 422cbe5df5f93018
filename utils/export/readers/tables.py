"""How the libraries of WebDataset and parquet give a set: as it is. Members of a tar that have one stem are one sample; a name ends at its first dot."""

import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.export.beside import COLUMNS
from utils.export.models import Target
from utils.export.readers.sample import Media, Sample, as_it_is
from utils.video_utils import content_digest, digest_of


def read_webdataset(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    for shard in sorted((folder / "shards").glob("*.tar")):
        parts: dict[str, dict[str, str]] = defaultdict(dict)
        with tarfile.open(shard) as tar:
            for member in tar:
                stem, _, ending = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None  # a regular file
                if ending in ("txt", "json"):
                    parts[stem][ending] = content.read().decode()
                else:
                    column, dot, _ = ending.rpartition(".")
                    parts[stem][column if dot else "medium"] = digest_of(content)
        for stem, part in parts.items():
            row = json.loads(part["json"])
            size = row["frames"], row["width"], row["height"], row["fps"]
            beside = tuple(
                folder / row[name]
                if part[name] == content_digest(str(folder / row[name]))
                else shard / f"{stem}.{name}"
                for name in COLUMNS
                if name in part
            )
            yield Sample(shard / stem, part["txt"], *size, digest=part["medium"], beside=beside)


def read_parquet(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    from pyarrow import parquet

    file = parquet.ParquetFile(folder / "data.parquet")
    columns = [name for name in ("file", "caption", *COLUMNS) if name in file.schema_arrow.names]
    for item in file.read(columns=columns).to_pylist() if file.metadata.num_rows else ():
        path = folder / item["file"]
        beside = tuple(folder / item[name] for name in COLUMNS if item.get(name))
        yield replace(as_it_is(path, item["caption"], media(path)), beside=beside)
