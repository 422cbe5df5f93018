"""Puts all media of an export into place and removes those whose place has changed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from utils.export.beside import COLUMNS, files_of, given
from utils.export.clip_steps import Making, first_frame_file, is_placed, place_row
from utils.pipeline.ancestry import CLIP_COLUMNS
from utils.pipeline.own_files import inside
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.rows import read_rows, write_rows
from utils.video.opening import writing
from utils.video_utils import content_digest

MEDIA = "export.media.jsonl"


@dataclass(frozen=True)
class Placing:
    """`making`: how media come to be; `settings`: what they depend on beside their clips."""

    making: Making
    settings: dict[str, Any]
    options: RunOptions

    @property
    def folder(self) -> Path:
        return Path(self.making.folder)

    def run(self, rows: Sequence[dict]) -> dict[str, dict]:
        """Bring all media to their places; what they are, by clip."""
        path, planned = self.folder / MEDIA, {row["video_path"]: row for row in rows}
        self._tidy(path, planned)
        if not rows:
            return {}
        read = partial(place_row, video_folder=self.options.video_folder, making=self.making)
        chosen = ("width", "height", "frames") if self.making.how == "encode" else ()
        step = Step(
            "media",
            read,
            self.settings,
            depends_on=(*CLIP_COLUMNS, "crop_box", *COLUMNS, *chosen),
            is_whole=lambda group: self._is_whole(group[0], planned.get(group[0]["video_path"])),
            done_word="placed",
        )
        process_rows(step, rows, replace(self.options, saved_path=str(path)))
        return {row["video_path"]: row for row in rows_of(path) if row["video_path"] in planned}

    def _is_whole(self, row: dict, planned: dict | None) -> bool:
        """Whether a row of the run before is as it was written; where media are is for the plan to say, not for the row."""
        if not is_placed(row) or self.making.how == "none":
            return is_placed(row)
        if planned is None or row["export_file"] != planned["export_file"]:
            return False
        wanted = [row["export_file"], *files_of(planned, self.making.beside, self.making.how == "encode").values()]
        if self.making.first_frames and "first_frame" not in given(planned, self.making.beside):
            wanted.append(first_frame_file(planned))
        return all((self.folder / name).exists() for name in wanted) and self._is_as_made(row)

    def _is_as_made(self, made: dict) -> bool:
        """Whether a medium is what was made: another clip's may have come to its place since."""
        path = self.folder / made["export_file"]
        return path.stat().st_size == made["bytes"] and content_digest(str(path)) == made["digest"]

    def _tidy(self, path: Path, planned: Mapping[str, dict]) -> None:
        """Move media whose place is another one now, and remove those that the plan no longer has: readers take what is there."""
        made = rows_of(path)
        if self.making.how == "none" or not made:
            return
        for row in made:
            old = inside(self.folder, row.get("export_file"))
            new = planned[row["video_path"]]["export_file"] if row["video_path"] in planned else None
            if old is None or old == (self.folder / new if new else None):
                continue
            with writing(old):
                if new is None:
                    unlink(old)
                elif old.is_file():
                    (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(old, self.folder / new)
                    row["export_file"] = new
        write_rows(path, [row for row in made if row["video_path"] in planned])


def unlink(path: Path) -> None:
    """Remove a file, or the link itself."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)


def rows_of(path: Path) -> list[dict]:
    """The rows of a file of the export; none where it is not there yet."""
    return read_rows(path, ("video_path",)) if path.exists() else []
