"""How each trainer handles each model: format × model, one table, from the trainers' own code (docs/export.md names the files).

A pair that is not in the table cannot work, or nobody has read how: it is refused with the formats that train the model.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from utils.export.models import MODELS, Size, Target
from utils.export.simpletuner_size import square_edge

LIBRARIES = ("hf", "webdataset", "parquet")  # no trainer: they give the media as they are, for every model
WAN = ("wan2.1", "wan2.1-720p", "wan2.2")
HUNYUAN = ("hunyuan", "hunyuan-720p")
LTX2 = ("ltx2", "ltx2.3", "ltx2.5")


@dataclass(frozen=True)
class Pair:
    """What a trainer does otherwise than its model's line in MODELS says. `rate`: how it comes to the model's rate, of `plan.TrainerRules`,
    None for its usual way. `changes`: fields of the `Target`. `fits`: which sizes it trains on unchanged, where that is not the multiple alone.
    `audio`: whether it learns what a clip sounds like, and from where: the "track" in the clip, or a "wav" beside it, which its list names. `silent`: what it does with
    clips without audio: "beside" others, "alone" (of one set all have audio or none), or "never".
    """

    rate: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    fits: Callable[[Size], bool] | None = None
    audio: str = ""
    silent: str = "beside"


def _all(
    models: Iterable[str], rate: str | None = None, audio: str = "", silent: str = "beside", **changes: Any
) -> dict[str, Pair]:
    return dict.fromkeys(models, Pair(rate, tuple(changes.items()), None, audio, silent))


def _aligned(models: Iterable[str], multiple: int, audio: str = "", **changes: Any) -> dict[str, Pair]:
    """SimpleTuner rounds sides to a multiple of its own, both of the square of the same area and of the frame."""

    def fits(size: Size) -> bool:
        return square_edge(size, multiple) is not None

    return dict.fromkeys(models, Pair(None, (("multiple", multiple), *changes.items()), fits, audio))


PAIRS: dict[str, dict[str, Pair]] = {
    "easyanimate": _all(["easyanimate"]),
    "videox_fun": _all([*WAN, "wan2.2-5b", "cogvideox"])
    | _all(["wan2.2-s2v", "minimax-h3"], audio="wav", silent="never"),
    # Wan is 16 fps there whatever the model's own rate, so that Wan 2.2 5B and SkyReels V2 would be slowed down; 4n+1 whatever the model but FramePack and MiniMax H3.
    "musubi": _all([*WAN, *HUNYUAN, "hunyuan1.5", "framepack", "kandinsky5"])
    | _all(["minimax-h3"], rate="model", audio="track"),
    "diffusion_pipe": _all(
        [*WAN, "wan2.2-5b", *HUNYUAN, "hunyuan1.5", "cosmos-predict2", "ltx-video", "ltx2", "ltx2.3"]
    )
    # The VAE of MiniMax H3 is given whole chunks of 17 frames.
    | _all(["minimax-h3"], audio="track", remainder=0, min_frames=17, max_frames=119),
    "ltx2": _all(LTX2, audio="track"),
    "ltx_video": _all(["ltx-video"]),
    "opensora": _all(["opensora2"]),
    "finetrainers": _all(["cogvideox", "hunyuan", "ltx-video", "wan2.1"]),
    # One --height and --width a run.
    "diffusers": _all(["cogvideox"]) | _all(["cogvideox1.5"], buckets=((1360, 768),)),
    # Where the rate is fixed, frames are floor(duration * fps) of a duration rounded to two decimals: one frame more saves a whole group.
    "diffsynth": _all([*WAN, "wan2.2-5b", "wan2.2-animate", "longcat-video"])
    | _all(["wan2.2-s2v"], audio="wav", silent="never")
    | _all([*LTX2, "minimax-h3"], rate="model", audio="track", silent="alone", extra_frames=1),
    "simpletuner": _aligned([*WAN, "wan2.2-5b"], 32, step=8) | _aligned(LTX2, 64, audio="track"),
    "ai_toolkit": _all([*WAN, "wan2.2-5b"]) | _all(["ltx2", "ltx2.3", "minimax-h3"], audio="track"),
}


# Where images go beside clips: the endings that are read, and the models that take none.
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
STILLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easyanimate": (IMAGES, ()),
    "videox_fun": (IMAGES, ("wan2.2-s2v", "minimax-h3")),
    "musubi": (IMAGES, ("framepack", "minimax-h3")),
    "diffusion_pipe": (IMAGES, ("minimax-h3",)),
    "ltx2": (IMAGES[:3], ()),  # a WebP would be opened as a video
    "ltx_video": (IMAGES[:3], ()),
    "opensora": (IMAGES, ()),
    "finetrainers": (IMAGES, ()),
    "diffsynth": (IMAGES, ("wan2.2-animate", "wan2.2-s2v", "minimax-h3")),
    "simpletuner": (IMAGES, ()),
    "ai_toolkit": (IMAGES, ("minimax-h3",)),
    "webdataset": (IMAGES, ()),
    "parquet": (IMAGES, ()),
}


def still_endings(format: str, model: str | None) -> tuple[str, ...]:
    """The endings of images that a format's trainer takes beside clips; none where it trains this model on videos alone."""
    endings, without = STILLS.get(format, ((), ()))
    return () if model in without else endings


def why_no_still(format: str, model: str | None, path: str, encoded: bool) -> str:
    """Why a format's trainer cannot have an image, "" where it can; encoded, all are PNG."""
    ending, endings = os.path.splitext(path)[1].lower(), still_endings(format, model)
    if endings and (encoded or ending in endings):
        return ""
    what = f"an image that ends in {ending}" if endings else "images"
    return f"image: {format} does not train {model or 'any model'} on {what}"


def trainers_of(model: str) -> list[str]:
    """The formats whose trainers train a model, libraries last."""
    return [name for name, models in PAIRS.items() if model in models] + list(LIBRARIES)


def models_of(format: str) -> list[str]:
    """The models of a format."""
    return list(MODELS) if format in LIBRARIES else [name for name in MODELS if name in PAIRS[format]]


def pair_of(format: str, model: str | None) -> Pair:
    """The pair's line; that of no model, or of a library, changes nothing. Raises: `KeyError` where there is none."""
    return Pair() if model is None or format in LIBRARIES else PAIRS[format][model]


def audio_of(format: str, model: str | None) -> str:
    """Where a format's trainer finds the audio: "track", "wav", or "" where it uses none. Without a model: the track, if it uses that for any."""
    if format in LIBRARIES:
        return "track"
    if model:
        return PAIRS[format][model].audio
    return "track" if any(pair.audio == "track" for pair in PAIRS[format].values()) else ""


def target_for(format: str, model: str) -> Target:
    """What a clip has to be for a model in this format's trainer.

    Raises: `KeyError` where the trainer does not train it.
    """
    pair = pair_of(format, model)
    target = replace(MODELS[model], **dict(pair.changes))
    buckets = [_snapped(size, target.multiple) for size in target.buckets]
    if pair.fits:
        buckets = [size for size in buckets if pair.fits(size)]
    return replace(target, buckets=tuple(dict.fromkeys(buckets)), model=model)


def _snapped(size: Size, multiple: int) -> Size:
    """The size whose sides are the nearest multiples."""
    return (
        max(multiple, round(size[0] / multiple) * multiple),
        max(multiple, round(size[1] / multiple) * multiple),
    )
