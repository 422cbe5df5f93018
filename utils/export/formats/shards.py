"""Formats of libraries rather than trainers: VideoFolder of `datasets`, WebDataset's tar shards, a parquet table."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from utils.export.formats.entry import Entry
from utils.export.formats.lists import write_text
from utils.export.models import Target
from utils.rows import atomic_write
from utils.rows.parquet import write_parquet

SHARD_BYTES = 1 << 30  # of a tar, at least; the last one is smaller
SHARD_CLIPS = 1_000


def columns_of(entry: Entry) -> dict:
    """The clip's own columns: what was measured of it, and of the media."""
    made = {"frames": entry.frames, "fps": round(float(entry.fps), 3), "width": entry.width, "height": entry.height}
    return {**entry.row, **made, **({"captions": entry.captions} if entry.others else {}), **entry.beside}


def hugging_face(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """Numbers and texts of the columns; `datasets` wants one type in a column, so mixed ones become text."""
    rows = [{"file_name": e.file, "caption": e.caption, **columns_of(e)} for e in entries]
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        values = [row.get(name) for row in rows]
        kinds = {
            float if isinstance(v, (int, float)) and not isinstance(v, bool) else type(v)
            for v in values
            if v is not None
        }
        if len(kinds) > 1 or kinds & {list, dict}:
            for row in rows:
                if name in row and not isinstance(row[name], str):
                    row[name] = json.dumps(row[name])
    write_text(
        folder / "metadata.jsonl", "".join(json.dumps({name: row.get(name) for name in names}) + "\n" for row in rows)
    )
    return [
        f'datasets.load_dataset("videofolder", data_dir={json.dumps(str(folder), ensure_ascii=False)}, split="train")'
    ]


def webdataset(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """Tars of members 000000.mp4, 000000.txt, 000000.json, in the order of the list; what goes beside a clip is 000000.control_path.mp4."""
    number, at = 0, 0
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    while at < len(entries) or not number:
        with (
            atomic_write(shards / f"{number:06}.tar") as temporary,
            tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar,
        ):
            size, begin = 0, at
            while at < len(entries) and at - begin < SHARD_CLIPS and size < SHARD_BYTES:
                size += _add(tar, folder, f"{at:06}", entries[at])
                at += 1
        number += 1
    for left in shards.glob("*.tar"):  # of an export that had more
        if left.stem.isdigit() and int(left.stem) >= number:
            left.unlink()
    pattern = f"{shards}/{{000000..{number - 1:06}}}.tar"
    return [f"webdataset.WebDataset({json.dumps(pattern, ensure_ascii=False)}, shardshuffle=False)"]


def _add(tar: tarfile.TarFile, folder: Path, stem: str, entry: Entry) -> int:
    texts = {"txt": entry.caption, "json": json.dumps(columns_of(entry))}
    besides = {f"{column}{Path(path).suffix.lower()}": folder / path for column, path in entry.beside.items()}
    size = 0
    for ending, path in {entry.path.suffix.lower().lstrip("."): entry.path, **besides}.items():
        with open(path, "rb") as file:
            info = tarfile.TarInfo(f"{stem}.{ending}")
            info.size = path.stat().st_size
            tar.addfile(info, file)
        size += info.size
    for ending, text in texts.items():
        content = text.encode()
        member = tarfile.TarInfo(f"{stem}.{ending}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return size


def parquet(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    with atomic_write(folder / "data.parquet") as temporary:
        write_parquet(temporary, [{"file": e.file, "caption": e.caption, **columns_of(e)} for e in entries])
    return [f"pandas.read_parquet({json.dumps(str(folder / 'data.parquet'), ensure_ascii=False)})"]
