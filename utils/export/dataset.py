"""An export, from the rows to the card: measure, plan, choose, place the media, write the lists, read them back.

Files in the folder, beside those of the format: `export.plan.jsonl`, each clip with what becomes of it and why;
`export.measured.jsonl` and `export.media.jsonl`, from which a rerun goes on; `export.files.json`, what the lists are.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from utils.captioning.attributes import PLACEHOLDER, is_placeholder
from utils.errors import UsageError
from utils.export.beside import COLUMNS, WAV, files_of, given
from utils.export.buckets import fill_batches
from utils.export.captions import captions_of, for_format
from utils.export.card import card, filters_of
from utils.export.choose import choose, leave_out_silent, leave_out_without
from utils.export.clip_steps import (
    Making,
    first_frame_file,
    is_plan,
    media_name,
    plan_row,
    settings_of_target,
)
from utils.export.formats import FORMATS, rules_of, unknown_rate
from utils.export.formats.entry import Entry
from utils.export.formats.lists import write_text
from utils.export.models import Target
from utils.export.placing import MEDIA, Placing, rows_of, unlink
from utils.export.plan_text import in_words, table
from utils.export.read_back import check, promise, promise_of
from utils.export.trainers import LIBRARIES, audio_of, pair_of, why_no_still
from utils.pipeline.ancestry import CLIP_COLUMNS, PROVENANCE
from utils.pipeline.own_files import inside
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.rows import write_rows
from utils.video.opening import writing
from utils.video.stills import is_still
from utils.video_utils import locate

PLAN, MEASURED, FILES = "export.plan.jsonl", "export.measured.jsonl", "export.files.json"
SETS = {
    "require": "no audio",
    "without": "has audio",
}  # by the choice of audio: why the clips of the other set are left out
DONE = {"none": "leave it where it is", "link": "link it", "copy": "copy it"}


@dataclass(frozen=True)
class Export:
    """The choices of an export, named as the flags are; `audio` is keep, drop, require, or without: only clips that have none. `write(rows)` makes it, `show_plan(rows)` says what it would be."""

    folder: Path
    format: str
    model: str | None
    target: Target
    media: str
    fps_mode: str
    crf: int
    preset: str
    first_frames: bool
    max_upscale: float | None
    val_share: float
    balance: str | None
    max_per_source: int | None
    license: str | None
    caption_column: str
    options: RunOptions
    batch_size: int | None = None
    caption: str | None = None
    audio: str = "keep"

    @property
    def heard(self) -> str:
        """Where the trainer finds the audio of these clips: "track", "wav" or ""."""
        return "" if self.audio in ("drop", "without") else audio_of(self.format, self.model)

    @property
    def beside(self) -> tuple[str, ...]:
        """The columns of what goes beside a clip."""
        if FORMATS[self.format].same_names and self.media != "encode":
            return ()
        return tuple(c for c in FORMATS[self.format].beside if c != WAV or self.heard == "wav")

    @property
    def settings(self) -> dict[str, Any]:
        """What media depend on beside their clips, as JSON has it."""
        how = {
            "target": settings_of_target(self.target),
            "fps_mode": self.fps_mode,
            "crf": self.crf,
            "preset": self.preset,
        }
        # Of media that stay as they are, a model still decides what its trainer makes of them.
        as_they_are = {"model": self.model} if self.model else {}
        found = {
            "media": self.media,
            "format": self.format,
            "version": 1,
            **(how if self.media == "encode" else as_they_are),
            **({"audio": self.audio} if self.audio == "drop" else {}),
            # Its exports had no audio before there was a form of it, of which LTX-2.5 has none.
            **({"heard": self.heard} if self.format == "diffsynth" and self.heard else {}),
        }
        return json.loads(json.dumps(found))

    def show_plan(self, rows: Sequence[dict], each: bool) -> None:
        """Print the table, and before it a line for each clip if `each` says so."""
        with redirect_stdout(io.StringIO()):  # its closing line names a file that does not stay
            plan = self.planned(rows)
        for row in plan if each else ():
            print(f"{row['video_path']}: as it is: {row.get('as_is', 'not known')}; export: {row['does']}")
        print(table(plan, self._notes(rows)))

    def write(self, rows: Sequence[dict]) -> None:
        """Make the export, or bring it up to date.

        Raises: `UsageError`, `RunError`; also where what was written does not read back as planned.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("an export runs without ranks; --n_jobs sets its processes")
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            others = next((one.name for one in self.folder.iterdir() if one.name != ".DS_Store"), None)
        if others and not any(self.folder.glob("export.measured*")):
            raise UsageError(
                f"--export_folder {self.folder} holds other files ({others}), which an export might replace; choose an empty or new folder"
            )
        self._refuse_link(next((path for path in self.folder.glob("export.*") if path.is_symlink()), None))
        plan = self.planned(rows)
        self._refuse_links_of(plan)
        write_rows(self.folder / PLAN, plan)
        print(table(plan, self._notes(rows)))
        made = self._place(
            [{**row, **planned} for row, planned in zip(rows, plan, strict=True) if not planned["reason"]]
        )
        errors = {
            row["video_path"]: str(row.get("message"))
            for row in rows_of(self.folder / MEDIA.replace(".jsonl", ".errors.jsonl"))
        }
        for planned in plan:
            if not planned["reason"] and planned["video_path"] not in made:
                planned.update(
                    reason="error", does=f"left out: {errors.get(planned['video_path'], 'not made')}".partition("\n")[0]
                )
        write_rows(self.folder / PLAN, plan)
        self._write_lists(rows, plan, made)
        if made_up := sum(is_placeholder(row) for row in rows):
            print(f"export: {made_up:,} captions are placeholders, {PLACEHOLDER}")
        exported = sum(not planned["reason"] for planned in plan)
        failed = sum(planned["reason"] == "error" for planned in plan)
        print(
            f"export: {len(plan):,} rows in = {exported:,} written + {failed:,} errors + {len(plan) - exported - failed:,} filtered -> {self.folder}"
        )

    def _notes(self, rows: Sequence[dict]) -> str:
        """What the table of a plan does not show: what is not known, and what of the rows stays behind."""
        notes = [unknown_rate(self.format, self.model)]
        for column in (c for c in COLUMNS if c not in self.beside and any(given(row, [c]) for row in rows)):
            linked = self.media != "encode" and column in FORMATS[self.format].beside
            why = "takes it from --media encode alone" if linked else "has no place for it"
            notes.append(f"{column} stays behind: {self.format} {why}")
        return "\n".join(filter(None, notes))

    def _refuse_links_of(self, plan: Sequence[dict]) -> None:
        """Nothing is written, replaced or removed through a folder that is a link out of the export."""
        folders = {os.path.dirname(planned["export_file"]) for planned in plan if not planned["reason"]}
        for split in {planned.get("split") or "" for planned in plan}:
            folders |= {split, os.path.join(split, "first_frames"), os.path.join(split, "shards")}
        outside = [folder for folder in sorted(folders) if inside(self.folder, os.path.join(folder, "file")) is None]
        self._refuse_link(self.folder / outside[0] if outside else None)

    def _refuse_link(self, path: Path | None) -> None:
        if path:
            raise UsageError(
                f"{path} is a symbolic link, but an export writes only inside its own folder; remove the link, or choose another --export_folder"
            )

    def planned(self, rows: Sequence[dict]) -> list[dict]:
        """The plan's row of each clip: what was measured, `reason` why it is left out ("" where it is not), `does` in words, `split`,
        `export_file`.
        """
        form, encoded, read = FORMATS[self.format], self.media == "encode", self._plan_row
        step = Step(
            "plan",
            read,
            self.settings,
            depends_on=(*CLIP_COLUMNS, "crop_box", *COLUMNS),
            is_whole=lambda group: is_plan(group[0], encoded),
            done_word="planned",
        )
        path = self.folder / MEASURED
        process_rows(step, rows, replace(self.options, saved_path=str(path)))
        measured = {row["video_path"]: row for row in rows_of(path)}
        errors = {row["video_path"]: row.get("message") for row in rows_of(path.with_suffix(".errors.jsonl"))}
        plan = []
        for row in rows:
            found = measured.get(row["video_path"])
            reason = "error" if found is None else self._reason(row, found)
            does = str(errors.get(row["video_path"], "")).partition("\n")[0] if found is None else reason
            kept = {name: value for name, value in (found or {}).items() if name not in ("made_from", "reason")}
            plan.append({"video_path": row["video_path"], "reason": reason.partition(":")[0], "does": does, **kept})
        if self.format not in LIBRARIES:
            leave_out_without(rows, plan, [c for c in self.beside if c != WAV], form.only)
        if self.heard:
            leave_out_silent(plan, pair_of(self.format, self.model).silent)
        choose(rows, plan, self.max_per_source, self.balance, self.val_share)
        if self.batch_size:
            keeps_rate = self.target.fps is None or self.fps_mode == "keep"
            fill_batches(rows, plan, self.target, keeps_rate, self.batch_size, self._plan_row)
        for planned in plan:
            if planned["reason"]:
                planned["does"] = f"left out: {planned['does'] or planned['reason']}"
            else:
                planned["does"] = in_words(planned) if encoded else DONE[self.media]
                planned["usable"] = self._usable(planned)
                name = media_name(planned["video_path"], encoded)
                folder = form.media_folder.format(**planned)
                if is_still(name):
                    folder = folder.replace("videos", "images", 1)
                planned["export_file"] = str(Path(planned.get("split") or "", folder, name))
        for row, planned in zip(rows, plan, strict=True):
            if not planned["reason"]:
                planned["beside"] = files_of({**row, **planned}, self.beside, encoded)
        self._promise(rows, plan)
        return plan

    @property
    def _plan_row(self) -> partial[dict]:
        return partial(
            plan_row,
            video_folder=self.options.video_folder,
            target=self.target,
            trainer_rules=rules_of(self.format, self.model),
            fps_mode=self.fps_mode,
            encoded=self.media == "encode",
            beside=self.beside,
        )

    def _usable(self, planned: dict) -> int:
        """How many frames the trainer has of a medium."""
        if is_still(planned["video_path"]):
            return 1
        if self.media == "encode":
            return planned["frames"] - self.target.extra_frames
        return (
            planned["as_is_frames"]
            if rules_of(self.format, self.model).rate in ("model", "declared")
            else planned["frames"]
        )

    def _promise(self, rows: Sequence[dict], plan: list[dict]) -> None:
        """Let the trainer's reader say what it will make of each clip."""
        kept = [
            (planned, self._planned_entry(row, planned))
            for row, planned in zip(rows, plan, strict=True)
            if not planned["reason"]
        ]
        promise(self.format, self.target, kept, self.media == "encode")

    def _reason(self, row: dict, measured: dict) -> str:
        if not captions_of(row[self.caption_column]):
            return "no caption"
        path = row["video_path"]
        if is_still(path) and (why := why_no_still(self.format, self.model, path, self.media == "encode")):
            return why
        if self.audio in SETS and measured["has_audio"] != (self.audio == "require"):
            return SETS[self.audio]
        if self.media != "encode" and self.model and not measured["as_is_frames"]:
            return f"too short: {measured['as_is']}"
        if self.max_upscale and measured.get("upscale", 1) > self.max_upscale:
            return f"too small: it would be scaled up {measured['upscale']:g} times"
        return measured.get("reason", "")

    def _place(self, rows: list[dict]) -> dict[str, dict]:
        """Bring all media to their places; what they are, by clip."""
        making = Making(
            str(self.folder), self.media, self.target, self.fps_mode, self.crf, self.preset, self.heard == "track", self.first_frames, self.beside
        )  # fmt: skip
        return Placing(making, self.settings, self.options).run(rows)

    def _write_lists(self, rows: Sequence[dict], plan: Sequence[dict], made: dict[str, dict]) -> None:
        """Lists, settings, captions and card of each split, read back; those of the run before are gone first."""
        form = FORMATS[self.format]
        placed = [planned for planned in plan if not planned["reason"]]
        media = {str(self.folder / found["export_file"]) for found in made.values()} | {
            str(self.folder / name) for planned in placed for name in planned["beside"].values()
        }
        self._remove_lists(media)
        for left in self._files():
            name = os.path.basename(left)
            if name.startswith(".") and name.endswith(".tmp"):  # of a run that was killed
                Path(left).unlink(missing_ok=True)
        before, starts, entries = self._files(), [], {}
        splits = ("train", "val") if self.val_share else ("",)
        for split in splits:
            folder = (self.folder / split).absolute()
            chosen = [
                (row, planned)
                for row, planned in zip(rows, plan, strict=True)
                if not planned["reason"] and (planned.get("split") or "") == split
            ]
            group = [self._entry(row, made[row["video_path"]], planned, folder) for row, planned in chosen]
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            printed = form.write(folder, group, self.target)
            starts += [start for start in printed if start not in starts]
            digests = [made[row["video_path"]]["digest"] for row, _ in chosen]
            promises = {entry.path: promise_of(planned) for entry, (_, planned) in zip(group, chosen, strict=True)}
            check(folder, self.format, group, digests, self.target, printed, promises)
            entries[split or "train"] = group
        # By their inodes, because a list that nobody has removed is replaced. What is beside media is among the lists: a run that needs it no longer removes it.
        beside = {str(self.folder / name) for planned in placed for name in planned["beside"].values()} & set(before)
        written = sorted(
            name
            for name, inode in self._files().items()
            if (before.get(name) != inode and name not in media) or name in beside
        )
        dropped = Counter(planned["reason"] for planned in plan if planned["reason"])
        settings = {
            "format": self.format,
            "model": self.model,
            **self.settings,
            "val_share": self.val_share,
            "balance": self.balance,
            "max_per_source": self.max_per_source,
        }
        lists = self.options.video_metadata_path
        filters = filters_of(lists) or filters_of(str(Path(lists or "").with_name("train.jsonl")))
        write_text(
            self.folder / "README.md",
            card(self.folder.absolute().name, entries, starts, settings, dropped, filters, self.license),
        )
        names = [str(Path(name).relative_to(self.folder)) for name in written]
        write_text(self.folder / FILES, json.dumps(names) + "\n")
        for start in starts:
            print(f"start: {start}")

    def _files(self) -> dict[str, int]:
        """All files with their inodes, but for those of folders that are links."""
        found = (os.path.join(at, name) for at, _, names in os.walk(self.folder) for name in names)
        return {name: os.lstat(name).st_ino for name in found}

    def _remove_lists(self, media: set[str]) -> None:
        """What the run before says that it wrote, where that is a file of this folder and no medium."""
        try:
            names = json.loads((self.folder / FILES).read_text(encoding="utf-8", errors="surrogateescape"))
        except (OSError, ValueError, RecursionError):
            return
        for name in names if isinstance(names, list) else ():
            path = inside(self.folder, name)
            if path and str(path) not in media:
                with writing(path):
                    unlink(path)

    def _planned_entry(self, row: dict, planned: dict) -> Entry:
        """The entry of a clip as its medium will be."""
        fps = self.target.fps if self.media == "encode" and self.fps_mode != "keep" else None
        size = {name: planned[name] for name in ("export_file", "frames", "width", "height")}
        fps = None if is_still(row["video_path"]) else fps
        made = {**size, "rate": fps or Fraction(planned["fps"]).limit_denominator(1001)}
        return self._entry(row, made, planned, (self.folder / (planned.get("split") or "")).absolute())

    def _entry(self, row: dict, made: dict, planned: dict, folder: Path) -> Entry:
        form = FORMATS[self.format]
        path = (self.folder / made["export_file"]).absolute()
        if self.media == "none":
            path = Path(locate(row["video_path"], self.options.video_folder)).absolute()
        columns = {name: value for name, value in row.items() if name not in (*PROVENANCE, self.caption_column)}
        caption, *others = for_format(form, row[self.caption_column], self.caption, row["video_path"])
        return Entry(
            path.relative_to(folder).as_posix() if self.media != "none" else str(path), path, caption,
            Fraction(made["rate"]), made["width"], made["height"], made["frames"], columns, planned["usable"], tuple(others),
            self._beside(row, planned, folder), bool(self.heard) and planned["has_audio"],
        )  # fmt: skip

    def _beside(self, row: dict, planned: dict, folder: Path) -> dict[str, str]:
        """Where what goes beside a clip is, by column: relative to the folder of its split, or as it is where media are not placed."""
        if self.media == "none":
            paths = given(row, self.beside) | (
                {WAV: row["video_path"]} if WAV in self.beside and planned["has_audio"] else {}
            )
            return {name: locate(path, self.options.video_folder) for name, path in paths.items()}
        found = {
            name: (self.folder / file).absolute().relative_to(folder).as_posix()
            for name, file in planned["beside"].items()
        }
        if self.first_frames and "first_frame" in self.beside:
            made = (self.folder / first_frame_file(planned)).absolute()
            found.setdefault("first_frame", made.relative_to(folder).as_posix())
        return found
