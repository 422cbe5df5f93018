"""The sampled frames of a clip as a captioning engine takes them."""

import io
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image

from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling
from utils.video_utils import locate


def read_images(
    row: dict,
    video_folder: str | None,
    frame_sampling: FrameSampling,
    max_pixels: int,
    as_jpeg: bool,
    box: Sequence[int] | None = None,
) -> dict:
    """The sampled frames of one clip as its engine takes them: `images`, `indices` and `seconds`. With `box`, [x, y, width, height] in
    pixels, what is inside it.
    """

    def image_of(frame: av.VideoFrame) -> bytes | np.ndarray:
        image = frame_to_array(frame, "rgb24")
        if box is not None:
            x, y, width, height = box
            image = np.ascontiguousarray(image[y : y + height, x : x + width])
        image = fit_pixels(image, max_pixels)
        return jpeg(image) if as_jpeg else image

    indices, seconds, images = frame_sampling.each(locate(row["video_path"], video_folder), image_of)
    return {"indices": indices, "seconds": seconds, "images": images}


def with_times(got: dict) -> list:
    """The images of a clip as parts of a request, each after its time."""
    return [part for second, image in zip(got["seconds"], got["images"]) for part in (f"{second:.1f} s:", image)]


def fit_pixels(image: np.ndarray, max_pixels: int) -> np.ndarray:
    """uint8 (H, W, 3), downscaled in proportion where H x W is above `max_pixels`."""
    height, width = image.shape[:2]
    scale = min(1, (max_pixels / (height * width)) ** 0.5)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return image if scale == 1 else np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def jpeg(image: np.ndarray) -> bytes:
    """The JPEG file that a server gets: quality 95, no chroma subsampling."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()
