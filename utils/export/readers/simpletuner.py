"""How SimpleTuner loads a set (bghira/SimpleTuner, documentation/DATALOADER.md, helpers/multiaspect/image.py, helpers/models/*/model.py).

Each video backend takes all videos below its folder, each line of the text file beside one as a caption. Videos shorter than `min_frames`, after the cut to the model's rule,
are skipped, longer ones than `max_frames` too. Sizes: see `simpletuner_size`. A backend without a sample is an error. What conditions a sample is
looked for in the backends of its `conditioning_data`, under the sample's own name.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Target
from utils.export.readers.sample import Media, Medium, Sample, left_out, still
from utils.export.simpletuner_size import trained_size
from utils.video.stills import is_still_name
from utils.video_utils import is_video_name


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    backends = json.loads((folder / "multidatabackend.json").read_text(encoding="utf-8"))
    by_id = {backend["id"]: backend for backend in backends}
    for backend in backends:
        if backend["dataset_type"] not in ("video", "image"):
            continue
        is_kind = is_video_name if backend["dataset_type"] == "video" else is_still_name
        count = 0
        for file in sorted(path for path in Path(backend["instance_data_dir"]).rglob("*") if is_kind(path.name)):
            medium = media(file)
            name = file.relative_to(backend["instance_data_dir"])
            beside = tuple(Path(by_id[id]["instance_data_dir"]) / name for id in backend.get("conditioning_data", ()))
            if missing := [path for path in beside if not path.exists()]:
                raise RunError(f"{file}: SimpleTuner expects {missing[0]}, which does not exist")
            for caption in _captions(file):
                count += 1
                yield replace(_sample(file, caption, medium, backend, target), beside=beside)
        if not count:
            raise RunError(f"{folder}: SimpleTuner stops at an empty backend, {backend['id']}")


def _captions(file: Path) -> list[str]:
    text = file.with_suffix(".txt")
    if not text.exists():
        raise RunError(
            f"{file} is in the export but has no caption beside it; does it belong to another program? Move it away"
        )
    return [line.strip() for line in text.read_text(encoding="utf-8").split("\n") if line.strip()]


def _sample(file: Path, caption: str, medium: Medium, backend: dict, target: Target) -> Sample:
    size = medium.width, medium.height
    if target.step:  # without a model its alignment is not known
        size = trained_size(size, backend["resolution"], target.multiple)
    if medium.is_still:
        return still(file, caption, medium, size)
    video = backend["video"]
    frames = target.frames_of(medium.frames) if target.step else medium.frames
    if frames < video.get("min_frames", 1) or medium.frames > video.get("max_frames", medium.frames):
        return left_out(file, caption, medium, f"{medium.frames} frames are outside min_frames and max_frames")
    return Sample(file, caption, frames, *size, float(medium.fps))
