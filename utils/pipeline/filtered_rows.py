"""What filters write: the clips that pass with all their columns, and the others with the reason, as lines of JSON."""

import itertools
import json
from collections.abc import Iterator

from utils.database import text
from utils.pipeline.filters import Judged
from utils.pipeline.tables import as_python_writes, name_of, row_of, unlike_python
from utils.rows import dumps

RANGE = 500_000  # rows of the list that are written at once


def kept_lines(judged: Judged) -> Iterator[str]:
    """The rows that pass, as lines: a clip's own columns and those of its score files; on a clash its own value
    stays. `pixels`: of a frame."""
    _load_kept(judged)
    if any(table.is_mixed for table in (*judged.tables, judged.clips)):
        yield from _kept_in_own_order(judged)
        return
    pieces: list[str] = []
    before: dict[str, list[str]] = {}
    sources = judged.sources()
    for source, columns in [*sources, ("", ["video_path", *(["pixels"] if "pixels" in judged.columns else [])])]:
        for column in columns:
            there = [f"{source}.{name_of(column)} IS NOT NULL"] if source else []
            first = [f"{other}.{name_of(column)} IS NULL" for other in before.get(column, [])]
            lead = text(json.dumps(column, ensure_ascii=False) + ": ")
            value = judged.value(column)
            value = f"CASE WHEN {value}[1] = '[' THEN replace({value}, ',', ', ') ELSE {value} END"
            pieces.append(f"CASE WHEN {' AND '.join(there + first) or 'true'} THEN {lead} || {value} END")
            if source:
                before.setdefault(column, []).append(source)
    line = f"'{{' || concat_ws(', ', {', '.join(pieces)}) || '}}'"
    yield from _lines(judged, line, judged.joined("wide"), "clips.clip")
    for t in (*judged.tables, judged.clips):
        judged.db.execute(f"DROP TABLE {t.name}_wide")


def _load_kept(judged: Judged) -> None:
    """The tables `{name}_wide`: all columns of the clips that pass, and `clip`."""
    rows = ", ".join(["facts.idx", "facts.idx AS row_of_clips", *(f"row_of_{t.name}" for t in judged.tables)])
    judged.db.execute(
        f"CREATE OR REPLACE TABLE kept AS SELECT {rows} FROM facts JOIN judged ON judged.idx = facts.idx WHERE code IS NULL"
    )
    for t in (*judged.tables, judged.clips):
        judged.db.execute(f"DROP TABLE IF EXISTS {t.name}_facts")  # memory
    for t in (*judged.tables, judged.clips):
        columns = ", ".join(
            [
                "kept.idx AS clip",
                *(f"{t.name}.{name_of(c)}" for c in t.columns),
                *(["layout"] if t.is_mixed else []),
            ]
        )
        judged.db.execute(
            f"CREATE OR REPLACE TABLE {t.name}_wide AS SELECT {columns} FROM {t.name} JOIN kept ON row_of_{t.name} = {t.name}.idx"
        )


def _kept_in_own_order(judged: Judged) -> Iterator[str]:
    """The same by Python, for files whose rows have their columns in different orders."""
    tables = [*judged.tables, judged.clips]
    wanted = ["keys.key"]
    for table in tables:
        wanted.append(f"{table.name}.layout" if table.is_mixed else "NULL")
        wanted += [f"{table.name}.{name_of(c)}" for c in table.columns]
    rows = judged.db.execute(f"SELECT {', '.join(wanted)} FROM {judged.joined('wide')} ORDER BY keys.idx")
    while found := rows.fetchmany(1000):
        for key, *cells in found:
            merged: dict = {}
            texts = iter(cells)
            for table in tables:
                layout = next(texts)
                row = row_of(table.columns, tuple(itertools.islice(texts, len(table.columns))))
                if layout:
                    row = {c: row[c] for c in (table.columns[i] for i in json.loads(layout))}
                if table is not judged.clips:
                    row.pop("made_from", None)
                merged |= row
            merged |= row_of(["video_path"], (key,))
            size = merged.get("frame_size")
            yield dumps(merged | ({"pixels": size[0] * size[1]} if size else {})) + "\n"


def dropped_lines(judged: Judged) -> Iterator[str]:
    """The others, as lines: video_path, reason, value."""
    reason = "[" + ", ".join(text(json.dumps(reason, ensure_ascii=False)) for reason in judged.reasons) + "][code + 1]"
    line = f"""'{{"video_path": ' || key || ', "reason": ' || {reason} || ', "value": ' || coalesce(value, 'null') || '}}'"""
    return _lines(judged, line, "judged JOIN keys ON keys.idx = judged.idx", "judged.idx", "code IS NOT NULL")


def _lines(judged: Judged, line: str, source: str, idx: str, which: str = "true") -> Iterator[str]:
    """SQL: a line, where from, the number of its clip. In ranges, so that no sort exceeds the memory."""
    (last,) = judged.db.execute("SELECT max(idx) FROM keys").fetchone() or (0,)
    for begin in range(0, (last or 0) + 1, RANGE):
        rows = judged.db.execute(
            f"SELECT line, {unlike_python('line')} FROM (SELECT {idx} AS number, {line} AS line FROM {source} "
            f"WHERE {which} AND {idx} BETWEEN {begin} AND {begin + RANGE - 1}) ORDER BY number"
        )
        while found := rows.fetchmany(10_000):
            for written, differs in found:
                yield (as_python_writes(written) if differs else written) + "\n"
