"""Embeddings of clips in parquet: `video_path`, and `embedding`, float32 of one length, the mean of the frames' at length 1.

While a run lasts they go with the rows of its result file, so that a clip's score and its embedding come or fail together; when it
ends they are moved into the parquet file.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from utils.errors import UsageError
from utils.rows import atomic_write, rows_of, write_rows

COLUMN = "clip_embedding"  # of the result file, float16 in base64
BATCH = 10_000  # rows that are in memory at once


def encoded(frames: np.ndarray) -> str:
    """The embedding of a clip for its row. frames: float32 (T, D), each of length 1."""
    mean = frames.mean(0)
    return base64.b64encode((mean / max(float(np.linalg.norm(mean)), 1e-12)).astype("<f2").tobytes()).decode()


def embedded_paths(path: Path) -> set[str]:
    """The clips that a parquet file has; none where there is no file. Raises: `UsageError`."""
    return set(_column(path, "video_path")) if path.exists() else set()


def read_embeddings(path: Path) -> tuple[list[str], np.ndarray]:
    """Clips and their embeddings, float32 (N, D), each of length 1. Raises: `UsageError`."""
    paths, vectors = _column(path, "video_path"), _column(path, "embedding")
    try:
        matrix = np.array(vectors, np.float32).reshape(len(paths), -1)
    except ValueError:
        raise UsageError(f"{path}: its embeddings have different lengths, so they come from different models") from None
    return paths, matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def _column(path: Path, name: str) -> list:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_table(path, columns=[name]).column(name).to_pylist()
    except (pyarrow.ArrowException, KeyError, OSError) as error:
        raise UsageError(f"{path}: not a file of embeddings: {str(error).splitlines()[0]}") from None


def move_embeddings(saved_path: Path, path: Path) -> int:
    """Move what a result file holds into the parquet file, whose other clips stay; how many it then has.

    Raises: `UsageError` where either holds something else.
    """
    import pyarrow
    from pyarrow import parquet

    new = {row["video_path"]: row[COLUMN] for row in rows_of(saved_path, ("video_path",)) if COLUMN in row}
    if not new:
        return len(embedded_paths(path))
    lengths = set()
    for name, text in new.items():
        try:
            lengths.add(len(np.frombuffer(base64.b64decode(text, validate=True), "<f2")))
        except (TypeError, ValueError):
            lengths.add(0)
        if 0 in lengths or len(lengths) > 1:
            raise UsageError(
                f"{saved_path}: {COLUMN} of {name!r} is not an embedding of this model; --overwrite recomputes all"
            )
    schema = pyarrow.schema([("video_path", pyarrow.string()), ("embedding", pyarrow.list_(pyarrow.float32()))])
    count = 0
    with atomic_write(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for paths, vectors in _batches(path, new):
            writer.write_table(pyarrow.table({"video_path": paths, "embedding": list(vectors)}, schema=schema))
            count += len(paths)
    write_rows(
        saved_path, [{k: v for k, v in row.items() if k != COLUMN} for row in rows_of(saved_path, ("video_path",))]
    )
    return count


def _batches(path: Path, new: dict[str, str]) -> Iterator[tuple[list[str], np.ndarray]]:
    if path.exists():
        there, matrix = read_embeddings(path)
        kept = [i for i, one in enumerate(there) if one not in new]
        for begin in range(0, len(kept), BATCH):
            chosen = kept[begin : begin + BATCH]
            yield [there[i] for i in chosen], matrix[chosen]
    names = list(new)
    for begin in range(0, len(names), BATCH):
        chunk = names[begin : begin + BATCH]
        yield chunk, np.stack([np.frombuffer(base64.b64decode(new[name]), "<f2").astype(np.float32) for name in chunk])
