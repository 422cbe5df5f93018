"""How ai-toolkit loads a set (ostris/ai-toolkit, toolkit/buckets.py, toolkit/dataloader_mixins.py).

`num_frames` frames are spread evenly over the whole video, so that it is squeezed where it has others. The size is that of `resolution`² pixels at most, in the video's own aspect
ratio; sides become multiples, rounded down and up, and of the four sizes that are not larger the nearest is taken. What controls a video is an image of its stem.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil, floor
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Size, Target
from utils.export.readers.sample import Media, Sample, with_stem
from utils.video.stills import is_still_name
from utils.video_utils import is_video_name

CONTROLS = (".jpg", ".jpeg", ".png", ".webp")


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    import yaml  # type: ignore[import-untyped]

    for dataset in yaml.safe_load((folder / "datasets.yaml").read_text(encoding="utf-8"))["datasets"] or []:
        is_kind = is_still_name if dataset["num_frames"] == 1 else is_video_name
        for file in sorted(path for path in Path(dataset["folder_path"]).iterdir() if is_kind(path.name)):
            text = file.with_suffix(f".{dataset['caption_ext']}")
            if not text.exists():
                raise RunError(
                    f"{file} is in the export but has no caption beside it; does it belong to another program? Move it away"
                )
            medium, frames = media(file), dataset["num_frames"]
            width, height = _bucket((medium.width, medium.height), dataset["resolution"][0], max(8, target.multiple))
            squeezed = float(medium.fps) * frames / medium.frames
            beside = tuple(p for p in with_stem(dataset.get("control_path"), file) if p.suffix.lower() in CONTROLS)
            caption = text.read_text(encoding="utf-8").strip()
            yield Sample(file, caption, frames, width, height, squeezed, beside=beside)


def _bucket(size: Size, resolution: int, multiple: int) -> Size:
    pixels = size[0] * size[1]
    most = resolution * resolution
    scale = (min(pixels, most) / pixels) ** 0.5
    sides = [[round_(side * scale / multiple) * multiple for round_ in (floor, ceil)] for side in size]
    sizes = [(w, h) for w, h in product(*sides) if w and h and w * h <= most]
    return min(sizes, key=lambda s: abs(s[0] * s[1] - pixels * scale**2), default=(multiple, multiple))
