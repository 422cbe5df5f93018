"""The table of models' short names, models.jsonl: `alias` and `also`, the names that a user may give; `ids`, the hub id
for each engine or server that runs the model; `chat_template`, a file of prompts/ for a model that comes without one;
`server_args`, flags that a server needs for it; `licence`; `billions` of parameters; `gib`, memory of the weights in
bfloat16; `note`, what to know.
"""

from pathlib import Path

from utils.errors import UsageError
from utils.rows import read_rows

TABLE = Path(__file__).with_name("models.jsonl")


def known_model(name: str) -> dict:
    """The row of the table for `name`, a short name or another of its names; {} for a model that is not in the table."""
    names = {
        known.lower(): row
        for row in read_rows(TABLE)
        for known in (*row["ids"].values(), *row.get("also", []), row["alias"])
    }
    return {} if Path(name).is_dir() else names.get(name.lower(), {})


def hub_id(name: str, engine: str) -> str:
    """The hub id, or the local folder, of the model `name` for `engine`, which is an engine or a server.

    Raises: `UsageError` for a name that is neither, or a model that `engine` cannot run.
    """
    row = known_model(name)
    if row:
        ids = row["ids"]
        if engine in ids:
            return ids[engine]
        if engine == "openai":  # most servers call a model by its hub id
            return next(iter(ids.values()))
        raise UsageError(
            f"{engine} cannot run {name} ({row['note']}); use {' or '.join(ids)}, or another model, such as Qwen2.5-VL-7B"
        )
    if Path(name).is_dir() or engine == "openai":
        return name
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = ", ".join(row["alias"] for row in read_rows(TABLE))
        raise UsageError(f"{name} is neither a folder, nor a hub id (owner/name), nor one of the known names: {known}")
    return name
