"""The report's file: the built page with the data in elements that are never executed."""

import base64
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.rows import atomic_write

PAGE = Path(__file__).with_name("page.html")
PLACE = "<!-- REPORT DATA -->"


@dataclass
class Blocks:
    """Columns as compressed bytes, each known by its number; little-endian, one value a clip."""

    found: list[str] = field(default_factory=list)

    def add(self, data: bytes) -> int:
        self.found.append(base64.b64encode(gzip.compress(data, 6, mtime=0)).decode())
        return len(self.found) - 1

    def numbers(self, values: np.ndarray) -> int:
        """NaN: missing."""
        return self.add(np.asarray(values, "<f8").tobytes())

    def codes(self, values: Sequence[str | None]) -> tuple[int, list[str]]:
        """The block, and the texts that its codes stand for: k for the k-th of them, counted from 1; 0: missing."""
        names = sorted({value for value in values if value})
        code = {name: i for i, name in enumerate(names, 1)}
        return self.add(np.array([code.get(value or "", 0) for value in values], "<u2").tobytes()), names

    def texts(self, values: Iterable[str]) -> int:
        """Where each text begins, and the last ends, then all of them in UTF-8."""
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)]).astype("<u4")
        return self.add(ends.tobytes() + b"".join(encoded))

    def bits(self, values: Iterable[bool]) -> int:
        return self.add(np.fromiter(values, "u1").tobytes())

    def indices(self, values: Iterable[int]) -> int:
        return self.add(np.fromiter(values, "<i4").tobytes())


def write_page(path: str | os.PathLike, report: dict, blocks: Blocks) -> None:
    """Write the report whole. Raises: `OSError`."""
    head, place, tail = PAGE.read_text(encoding="utf-8").partition(PLACE)
    assert place, f"{PAGE} has no place for data"
    text = json.dumps(report, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        out.write(f'{head}<script type="application/json" id="report">{text}</script>\n')
        for number, block in enumerate(blocks.found):
            out.write(f'<script type="text/plain" id="block-{number}">{block}</script>\n')
        out.write(tail)
