"""Score the quality of each clip's frames with one or several metrics; sample_frame_idx lists the sampled frames.

- TechnicalScore, without a model: technical_score (0–10), averaged over the sampled frames, and its parts: sharpness,
  exposure, contrast, colourfulness (0–10 each), brightness, noise, blockiness (formulas in utils/scoring/technical.py).
- NSFWScore: nsfw_score (0–1), the maximum over the frames: Yahoo's open_nsfw, whose weights come with its package.
- AestheticScore: aesthetic_score, a list with one number (about 1–10) per frame: LAION's predictor v2 on CLIP ViT-L/14.
- AestheticScoreSigLIP: aesthetic_score_siglip, a list likewise: predictor v2.5 on SigLIP so400m patch14-384.
- CLIPScore: clip_score, the cosine similarity (-1 to 1) of the CLIP embeddings of frame and --caption_column, averaged over the frames.
- SemanticConsistency: semantic_consistency, the minimum cosine similarity of the CLIP embeddings of neighbouring sampled
  frames: low if there is a cut.

Always added: bits_per_pixel of the encoded video, frame_rate, and frame_rate_class (low, film, video, high, variable). A still (.jpg, .png,
.webp) is a clip of one frame: instead of the frame rate it has media_type ("image") and frame_size.

CLIP and its predictor are downloaded once, or loaded from --model_path and --predictor_path. Each rank uses its own GPU
if there is one.

    python compute_video_frame_quality.py --video_folder CLIPS --metrics TechnicalScore --saved_path technical_score.jsonl
    python compute_video_frame_quality.py --video_metadata_path clips.jsonl --video_folder CLIPS --num_sampled_frames 8
    torchrun --nproc_per_node 2 compute_video_frame_quality.py --video_folder CLIPS --metrics AestheticScore CLIPScore
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from utils.cli import about, add_crop_argument, add_sampling_arguments, between, from_flags, row_parser, run
from utils.errors import UsageError, VideoError
from utils.models.embeddings import COLUMN, embedded_paths, encoded, move_embeddings
from utils.models.image_transform import ImageTransform
from utils.pipeline.crops import CropBoxes, measured_in
from utils.pipeline.process import RunOptions, in_batches, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, OnDemand, Score
from utils.rows import digest
from utils.scoring.nsfw import highest, model_input, nsfw_weights
from utils.scoring.technical import BLOCK, means, measure_frame
from utils.video.cropping import cropped
from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling
from utils.video.stills import is_still
from utils.video.timing import encoding_facts, still_facts
from utils.video_utils import locate
from utils.workers.ranks import Ranks
from utils.working_copies import local_path


class Embedded(NamedTuple):
    """One clip as a metric with a model sees it: the embeddings of its frames, float32 (T, D), each of length 1, the
    embedding of its caption, float32 (D,), and the metric's predictor, where the metric has them.
    """

    frames: np.ndarray
    text: np.ndarray | None
    predictor: Any


@dataclass(frozen=True)
class Metric:
    """A metric either `look`s at each frame, uint8 (H, W, 3), RGB, in the reading processes and `combine`s what it found, or
    `score`s what its `model` gives of the frames; the first of its columns is the one that a clip is judged by, and names the result file.
    """

    columns: dict[str, Column]
    look: Callable[[np.ndarray], Any] | None = None
    combine: Callable[[Sequence[Any]], dict[str, float]] | None = None
    score: Callable[[Embedded], float | list[float]] | None = None
    model: str = ""  # of MODEL_FLAGS, as the next
    predictor: str = ""
    captions: bool = False  # whether it compares frames with a text
    min_frames: int = 1
    min_side: int = 1  # pixels

    @property
    def column(self) -> str:
        return next(iter(self.columns))


def predicted(clip: Embedded) -> list[float]:
    return [round(float(score), 4) for score in clip.predictor.scores(clip.frames)]


def caption_agreement(clip: Embedded) -> float:
    return round(float((clip.frames @ clip.text).mean()), 4)


def consistency(clip: Embedded) -> float:
    return round(lowest_neighbour_cosine(clip.frames), 4)


def lowest_neighbour_cosine(embeddings: np.ndarray) -> float:
    """The lowest cosine between neighbours among embeddings, float (T, D), each of length 1; 1 for a video's only
    frame.
    """
    return float(np.min((embeddings[1:] * embeddings[:-1]).sum(1), initial=1.0))


METRICS = {
    "TechnicalScore": Metric(
        {
            "technical_score": Column("technical quality, combined of the parts below", 0, 10, passes=(4, None)),
            "sharpness": Column("detail above noise in the sharpest quarter of the frame", 0, 10),
            "exposure": Column("bright highlights, few clipped pixels, no glare", 0, 10),
            "contrast": Column("RMS contrast", 0, 10),
            "colourfulness": Column("Hasler and Süsstrunk's M", 0, 10),
            "brightness": Column("mean luma", 0, 1),
            "noise": Column("standard deviation in gray levels", 0),
            "blockiness": Column("steps on the 8-pixel grid over those beside it, 1 for none", 0),
        },
        look=measure_frame,
        combine=means,
        min_side=BLOCK,
    ),
    "NSFWScore": Metric(
        {
            "nsfw_score": Column(
                "probability of pornography by open_nsfw, the highest of the frames", 0, 1, passes=(None, 0.8)
            )
        },
        look=model_input,
        combine=highest,
    ),
    "AestheticScore": Metric(
        {"aesthetic_score": Column("LAION's predictor v2 on CLIP ViT-L/14, about 1–10, a list", passes=(4, None))},
        score=predicted,
        model="clip",
        predictor="predictor",
    ),
    "AestheticScoreSigLIP": Metric(
        {"aesthetic_score_siglip": Column("predictor v2.5 on SigLIP so400m, about 1–10, a list", passes=(4, None))},
        score=predicted,
        model="siglip",
        predictor="siglip_predictor",
    ),
    "CLIPScore": Metric(
        {"clip_score": Column("cosine of frames and caption, mean", -1, 1)},
        score=caption_agreement,
        model="clip",
        captions=True,
    ),
    "SemanticConsistency": Metric(
        {"semantic_consistency": Column("lowest cosine of neighbouring frames", -1, 1, passes=(0.8, None))},
        score=consistency,
        model="clip",
        min_frames=2,
    ),
}
SCORE = Score(
    "quality",
    "{column}.jsonl",
    {name: column for metric in METRICS.values() for name, column in metric.columns.items()}
    | {
        "sample_frame_idx": Column("indices of the sampled frames, a list", 0),
        "bits_per_pixel": Column("bits of the encoded video for each pixel of each frame", 0),
        "frame_rate": Column("frames a second", 0),
        "frame_rate_class": Column("low below 20, film below 27, video below 40, high; or variable"),
        "media_type": Column("image, of a still alone"),
        "frame_size": Column("of a still alone: width and height as shown, pixels, a list", 1),
    },
)
MODEL_FLAGS = {  # in the order in which they are fetched: first what may be missing
    "clip": "model_path",
    "predictor": "predictor_path",
    "siglip_predictor": "siglip_predictor_path",
    "siglip": "siglip_model_path",
}


def read_clip(
    row: dict,
    video_folder: str | None,
    sampling: FrameSampling,
    metrics: list[str],
    transforms: dict[str, ImageTransform],
    caption: str,
) -> dict:
    """The columns of one clip that need no model; where models follow, also its frames as each of them sees them, uint8
    (T, S, S, 3), under the model's name.
    """
    path, text, captions = locate(row["video_path"], video_folder), row.get(caption), False
    for name in metrics:
        captions |= METRICS[name].captions
        if METRICS[name].captions and not (isinstance(text, str) and text.strip()):
            raise VideoError(f"{path!r} has no text in the column {caption!r}, which {name} needs")
    look, crop = partial(look_at, path=path, metrics=metrics, transforms=transforms), cropped(row.get("crop_box"))
    indices, _, frames = sampling.each(path, lambda frame: look(crop(frame)))
    columns: dict[str, Any] = {"sample_frame_idx": indices, **measured_in(row)}
    for name in metrics:
        metric = METRICS[name]
        if sampling.frame_sample_method == "keyframe" and len(frames) < metric.min_frames:
            raise VideoError(
                f"{path!r} has only one keyframe, but {name} compares frames: use --frame_sample_method uniform"
            )
        if metric.combine:
            found = metric.combine([seen[name] for seen in frames])
            columns |= {column: round(value, 4) for column, value in found.items()}
    columns |= still_facts(path) if is_still(path) else encoding_facts(path)
    if not transforms:
        return columns
    made_from = {"caption_made_from": digest(row, [caption])} if captions else {}
    seen = {model: np.stack([seen[model] for seen in frames]) for model in transforms}
    return {"columns": columns | made_from, "text": text, **seen}


def look_at(
    frame: av.VideoFrame, path: str, metrics: list[str], transforms: dict[str, ImageTransform]
) -> dict[str, Any]:
    """What each metric finds in a frame, and the frame as each model sees it, by their names. The frame itself is not kept."""
    pixels = frame_to_array(frame, "rgb24")
    height, width = pixels.shape[:2]
    seen: dict[str, Any] = {}
    for name in metrics:
        metric = METRICS[name]
        if min(height, width) < metric.min_side:
            raise VideoError(
                f"{path!r}: a frame of {width}x{height} pixels is too small for {name}, "
                f"which needs at least {metric.min_side} per side"
            )
        if metric.look:
            seen[name] = metric.look(pixels)
    return seen | {model: transform(pixels) for model, transform in transforms.items()}


def score_clips(
    batch: list[dict], metrics: list[str], models: dict, batch_size: int, embed: bool = False
) -> list[dict]:
    """All columns of each clip of a batch, of which `read_clip` gave some; the models see `batch_size` frames at a
    time. With `embed`, also CLIP's embedding of each clip.
    """
    rows = [clip["columns"] for clip in batch]
    by_model = [METRICS[name] for name in metrics if METRICS[name].model]
    embeddings = {
        model: embed_clips([clip[model] for clip in batch], models[model].embed_frames, batch_size)
        for model in {metric.model for metric in by_model}
    }
    captions = any(metric.captions for metric in by_model)
    texts = models["clip"].embed_texts([clip["text"] for clip in batch]) if captions else [None] * len(batch)
    for metric in by_model:
        assert metric.score is not None
        for row, frames, text in zip(rows, embeddings[metric.model], texts, strict=True):
            row[metric.column] = metric.score(Embedded(frames, text, models.get(metric.predictor)))
    if embed:
        for row, frames in zip(rows, embeddings["clip"], strict=True):
            row[COLUMN] = encoded(frames)
    return rows


def score_with(batch: list[dict], load: OnDemand, metrics: list[str], batch_size: int, embed: bool) -> list[dict]:
    """`score_clips` with the models that `load` gives, in whatever process this is."""
    return score_clips(batch, metrics, load()[0], batch_size, embed)


def embed_clips(
    clips: list[np.ndarray], embed_frames: Callable[[np.ndarray], np.ndarray], batch_size: int
) -> list[np.ndarray]:
    """The embeddings of each clip's frames, in batches that do not stop at the ends of clips."""
    frames = np.concatenate(clips)
    found = [embed_frames(frames[i : i + batch_size]) for i in range(0, len(frames), batch_size)]
    return np.split(np.concatenate(found), np.cumsum([len(clip) for clip in clips])[:-1])


def load_models(
    metrics: list[str], paths: dict[str, str | None], architecture: str | None, precision: str, ranks: Ranks
) -> tuple[dict[str, Any], dict[str, str]]:
    """The models that `metrics` need, by name, on the rank's device, and 16 digits of the SHA-256 of each one's weights.

    paths: of a user's own weights, by the model's name; architecture: open_clip's name of that of a user's own CLIP.

    Raises: `UsageError` when weights cannot be had, hold something else, or do not fit together.
    """
    from utils.models.clip import ARCHITECTURE  # here: TechnicalScore alone starts without torch
    from utils.models.frame_models import FETCH, load_model
    from utils.models.weights import sha256_of

    needed = {model for name in metrics for model in (METRICS[name].model, METRICS[name].predictor) if model}
    flags = {name: f"--{flag}" for name, flag in MODEL_FLAGS.items() if name in needed}

    def fetch() -> dict[str, Path]:
        files = {}
        for name, flag in flags.items():
            with about(flag):
                files[name] = FETCH[name](paths[name])
        return files

    files, models = ranks.after_rank_0("weights", fetch), {}
    for name, flag in flags.items():
        with about(flag):
            models[name] = load_model(name, files[name], architecture if paths["clip"] else ARCHITECTURE, precision)
    for name in metrics:
        metric = METRICS[name]
        if metric.predictor and models[metric.model].width != models[metric.predictor].width:
            raise UsageError(
                f"{flags[metric.model]}: {name}'s predictor takes embeddings of {models[metric.predictor].width} numbers, "
                f"and {files[metric.model]} gives {models[metric.model].width}"
            )
    return models, {name: sha256_of(file)[:16] for name, file in files.items()}


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=list(METRICS),
        default=["TechnicalScore"],
        help="metrics to compute; the first names {column}",
    )
    add_sampling_arguments(parser, ["uniform", "mid", "first", "last", "keyframe"], "uniform", 4)
    add_crop_argument(parser)
    parser.add_argument("--caption_column", default="summary_caption", help="column of the text, for CLIPScore")
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model_path", help="CLIP weights: a file, or a folder saved by open_clip (default: from the hub)"
    )
    group.add_argument(
        "--clip_architecture",
        help="open_clip's name of the architecture, if --model_path has no open_clip_config.json",
    )
    group.add_argument(
        "--predictor_path", help="sac+logos+ava1-l14-linearMSE.pth (default: downloaded from its public URL)"
    )
    group.add_argument("--siglip_model_path", help="folder of SigLIP so400m patch14-384 (default: from the hub)")
    group.add_argument("--siglip_predictor_path", help="aesthetic_predictor_v2_5.pth; has to be downloaded by hand")
    group.add_argument("--batch_size", type=between(1, 65_536), default=64, help="frames per batch")
    group.add_argument(
        "--precision",
        choices=["fp16", "bf16", "fp32"],
        default="fp16",
        help="precision on a GPU; a CPU always uses fp32",
    )
    group.add_argument(
        "--save_embeddings",
        metavar="FILE.parquet",
        help="also save the CLIP embedding of each clip, for compute_duplicates.py --embeddings",
    )
    args = parser.parse_args()
    args.saved_path = args.saved_path.replace("{column}", METRICS[args.metrics[0]].column)
    metrics = [name for name in METRICS if name in args.metrics]
    embeddings = local_path(args.save_embeddings) if args.save_embeddings else None
    if embeddings and (embeddings.suffix.lower() != ".parquet" or not args.saved_path.endswith(".jsonl")):
        parser.error(f"--save_embeddings {args.save_embeddings}: must be a .parquet file, with a .jsonl --saved_path")
    if embeddings and not any(METRICS[name].model == "clip" for name in metrics):
        parser.error("--save_embeddings saves CLIP embeddings: choose a CLIP metric, such as AestheticScore")
    sampling = from_flags(FrameSampling, args)
    settings = {"metrics": " ".join(metrics), **sampling.settings}
    rows, ranks = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column), Ranks()
    captions: dict[str, str | None] = {}
    for name in metrics:
        if METRICS[name].captions:
            settings["caption_column"] = args.caption_column
            if rows and not any(args.caption_column in row for row in rows):
                raise UsageError(f"--caption_column {args.caption_column}: {name} needs this column, but no row has it")
            captions = {row["video_path"]: digest(row, [args.caption_column]) for row in rows}
        one_frame = sampling.frame_sample_method in ("mid", "first", "last") or sampling.num_sampled_frames == 1
        if METRICS[name].min_frames > 1 and one_frame:
            raise UsageError(
                f"{name} compares frames: use --frame_sample_method uniform or keyframe with 2 or more frames"
            )

    if "NSFWScore" in metrics:
        nsfw_weights()  # raises before any work
    models: dict[str, Any] = {}
    load = OnDemand[Any](dict)  # no models
    if any(METRICS[name].model for name in metrics):
        paths = {name: getattr(args, flag) for name, flag in MODEL_FLAGS.items()}
        load = OnDemand(partial(load_models, metrics, paths, args.clip_architecture, args.precision, ranks))
        models, digests = load()
        settings |= digests
    transforms = {name: model.transform for name, model in models.items() if hasattr(model, "transform")}
    read = partial(
        read_clip,
        video_folder=args.video_folder,
        sampling=sampling,
        metrics=metrics,
        transforms=transforms,
        caption=args.caption_column,
    )

    boxes = CropBoxes.given_to(rows, args.crop_boxes, args.video_folder)
    embedded = embedded_paths(embeddings) if embeddings else set()

    def is_whole(results: list[dict]) -> bool:
        """Whether rows are of the boxes and captions that clips have now, and have their embeddings."""
        of_caption = all(
            row.get("caption_made_from") == captions.get(row["video_path"], row.get("caption_made_from"))
            for row in results
        )
        return (
            boxes.is_of_box(results)
            and of_caption
            and (embeddings is None or all(COLUMN in row or row["video_path"] in embedded for row in results))
        )

    score = partial(score_with, load=load, metrics=metrics, batch_size=args.batch_size, embed=bool(embeddings))
    step = SCORE.step(
        read,
        settings,
        in_batches(score, max(1, args.batch_size // args.num_sampled_frames)) if models else None,
        is_whole=is_whole if captions or embeddings else boxes.check_for(args.saved_path),
        inputs=boxes.inputs,
    )
    process_rows(step, rows, from_flags(RunOptions, args), ranks)
    if embeddings and ranks.rank == 0:
        print(
            f"embeddings: {move_embeddings(local_path(args.saved_path), embeddings):,} clips -> {args.save_embeddings}"
        )


if __name__ == "__main__":
    run(main)
