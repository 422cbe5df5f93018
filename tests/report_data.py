"""A made-up dataset for the report: clips, two scores and captions, hostile names, and the rule of the filter in Python."""

import json
import math
import random
from pathlib import Path

from utils.pipeline.ancestry import CLIP_COLUMNS
from utils.rows import digest, write_rows

HOSTILE = (
    "<script>window.hacked=1</script>.mp4", "\"quoted\" 'name'.mp4", "javascript:alert(1).mp4", "\u202ereversed\u202c.mp4", "影片 é %20 #1?.mp4",
    "lat\u00e91.mp4", "-dash.mp4", "<img src=x onerror=window.hacked=1>.mp4", "line\nbreak.mp4", "&lt;amp&amp;.mp4",
)  # fmt: skip
CAPTIONS = (
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    "word " * 10_000,
    "\u2067עברית\u2069 and text",
    "A red fox.",
)
CAMERAS = ("static", "pan left", "zoom in and roll clockwise", "handheld")


def make_dataset(folder: Path, count: int, seed: int = 1) -> list[dict]:
    """Write a dataset's files and return what each clip holds: duration, motion, quality, camera, colour."""
    drawn = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    clips, motion, quality, captions, known = [], [], [], [], []
    for i in range(count):
        path = HOSTILE[i] if i < len(HOSTILE) else f"films/{i // 5}/clip-{i:06}.mp4"
        duration = round(drawn.uniform(2.5, 11), 3)
        start = 10.0 * (i % 5)
        clip = {"video_path": path, "source_path": f"film {i // 5}.mp4", "source_digest": "0", "start_seconds": start, "end_seconds": start + duration,
                "duration": duration, "frame_size": [1280, 720], "has_audio": drawn.random() < 0.5, "bytes": drawn.randrange(10**5, 10**6)}  # fmt: skip
        stamp = {"made_from": digest(clip, CLIP_COLUMNS)}
        value = {
            "duration": duration,
            "motion": round(drawn.uniform(0, 30), 5) if i % 9 else None,
            "quality": round(drawn.gauss(5, 2), 4),
            "camera": drawn.choice(CAMERAS),
        }
        clips.append(clip)
        if value["motion"] is not None:
            motion.append(
                {"video_path": path, "motion_score": value["motion"], "camera_motion": value["camera"], **stamp}
            )
        quality.append(
            {"video_path": path, "technical_score": value["quality"], **(stamp if i % 13 else {"made_from": "older"})}
        )
        if not i % 13:
            value["quality"] = math.nan
        captions.append(
            {"video_path": path, "summary_caption": CAPTIONS[i % len(CAPTIONS)] if i < 20 else f"Clip number {i}."}
        )
        known.append(value)
    for name, rows in {
        "clips": clips,
        "motion_score": motion,
        "technical_score": quality,
        "summary_caption": captions,
    }.items():
        write_rows(folder / f"{name}.jsonl", rows)
        (folder / f"{name}.settings.json").write_text(
            json.dumps({"version": 1, "metrics": "TechnicalScore"} if name == "technical_score" else {"version": 1})
        )
    return known
