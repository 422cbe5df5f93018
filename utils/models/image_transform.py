"""Frames at the input size of an image model, made in the reader processes, without torch.

The same steps as torchvision's `Resize` and `CenterCrop` on a PIL image, which open_clip and transformers use:
resampling by Pillow, which averages over areas when it shrinks. The frames stay uint8, a quarter of the floats' size on
their way to the model, which normalises them.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ImageTransform:
    """How a frame becomes a square of `size` pixels: its short side resized and the middle cropped (`shortest`), or
    squeezed (`squash`).
    """

    size: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """frame: uint8 (H, W, 3), RGB. Gives uint8 (size, size, 3)."""
        height, width = frame.shape[:2]
        resampling = Image.Resampling[self.interpolation.upper()]
        if self.resize_mode == "squash":
            return np.array(Image.fromarray(frame).resize((self.size, self.size), resampling))
        short, long = min(width, height), max(width, height)
        resized = [self.size, int(self.size * long / short)]
        width, height = resized if width <= height else resized[::-1]
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        image = Image.fromarray(frame).resize((width, height), resampling)
        return np.array(image.crop((left, top, left + self.size, top + self.size)))
