"""The table of models' short names."""

from pathlib import Path

from utils.errors import UsageError
from utils.rows import read_rows

TABLE = Path(__file__).with_name("models.jsonl")


def known_model(name: str) -> dict | None:
    """The row of the table that `name` stands for: its short name or another of its names."""
    wanted = name.lower()
    names = {
        known.lower(): row
        for row in read_rows(TABLE)
        for known in (*row["ids"].values(), *row.get("also", []), row["alias"])
    }
    return None if Path(name).is_dir() else names.get(wanted)


def hub_id(name: str, engine: str, flag: str) -> str:
    """The hub id, or the local folder, that `name` stands for where `engine` (or a server) runs it.

    Raises: `UsageError` with a sentence: a name that is neither, or a model that `engine` cannot run and which can.
    """
    row = known_model(name)
    if row:
        ids = row["ids"]
        if engine in ids:
            return ids[engine]
        if engine == "openai":  # however its server was started, most call it by its id
            return next(iter(ids.values()))
        able = list(ids)
        raise UsageError(
            f"{flag} {name}: {engine} cannot run it ({row['note']}); {' or '.join(able)} can, or take Qwen2.5-VL-7B"
        )
    if Path(name).is_dir() or engine == "openai":
        return name
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = ", ".join(row["alias"] for row in read_rows(TABLE))
        raise UsageError(f"{flag} {name}: no folder, no hub id (owner/name) and none of the names known: {known}")
    return name
