"""How VideoX-Fun and EasyAnimate load a set (aigc-apps/VideoX-Fun, videox_fun/data/dataset_image_video.py; aigc-apps/EasyAnimate, easyanimate/data).

Every `--video_sample_stride`-th frame, `--video_sample_n_frames` at most, cut to 4n+1 before the VAE; the rate is the file's own.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Target
from utils.export.readers.sample import Media, Sample, flag, needed_flag, still


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    start = next(start for start in starts if "--train_data_meta" in start)
    root, stride = Path(needed_flag(start, "--train_data_dir")), int(flag(start, "--video_sample_stride") or 1)
    for item in json.loads(Path(needed_flag(start, "--train_data_meta")).read_text(encoding="utf-8")):
        path = root / item["file_path"]
        medium = media(path)
        if item["type"] == "image":
            beside = tuple(root / item[name] for name in ("control_file_path",) if name in item)
            yield replace(still(path, item["text"], medium), beside=beside)
            continue
        frames = min(int(flag(start, "--video_sample_n_frames") or medium.frames), medium.frames // stride)
        frames = target.frames_of(frames) if target.step else frames
        if target.sound and "audio_path" not in item:
            raise RunError(f"{path}: VideoX-Fun needs an audio_path for every clip of {target.model}")
        beside = tuple(root / item[name] for name in ("control_file_path", "audio_path") if name in item)
        fps = float(medium.fps) / stride
        yield Sample(path, item["text"], frames, medium.width, medium.height, fps, beside=beside)
