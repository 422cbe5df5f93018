"""The sampled frames of a clip in the format of a captioning engine."""

import io

import av
import numpy as np
from PIL import Image

from utils.pipeline.crops import MEASURED_IN
from utils.video.cropping import cropped
from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling
from utils.video_utils import locate


def read_images(
    row: dict,
    video_folder: str | None,
    frame_sampling: FrameSampling,
    max_pixels: int,
    as_jpeg: bool,
    box_column: str = MEASURED_IN,
) -> dict:
    """The sampled frames of one clip as its engine takes them: `images`, `indices` and `seconds`. Of a row with a box in
    `box_column`, as that which it was judged in, what is inside it.
    """
    crop = cropped(row.get(box_column))

    def image_of(frame: av.VideoFrame) -> bytes | np.ndarray:
        image = fit_pixels(frame_to_array(crop(frame), "rgb24"), max_pixels)
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
