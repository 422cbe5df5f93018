"""Score the quality of each clip's frames, by one or several metrics; sample_frame_idx names the frames.

- TechnicalScore, without a model: technical_score (0–10), the mean over the sampled frames, and what it is made of:
  sharpness, exposure, contrast, colourfulness (0–10 each), noise, blockiness (formulas in utils/technical_score.py).
- AestheticScore: aesthetic_score, a list, one number (about 1–10) a frame: LAION's predictor v2 on CLIP ViT-L/14.
- AestheticScoreSigLIP: aesthetic_score_siglip, a list likewise: predictor v2.5 on SigLIP so400m patch14-384.
- CLIPScore: clip_score, the cosine (-1 to 1) between the CLIP embeddings of frame and --caption_column, the mean.
- SemanticConsistency: semantic_consistency, the lowest cosine between the CLIP embeddings of neighbouring sampled
  frames: low where a cut is.

CLIP and its predictor are fetched once, or taken from --model_path and --predictor_path. A GPU is used where there is
one, one a rank.

    python compute_video_frame_quality.py --video_folder CLIPS --metrics TechnicalScore --saved_path technical_score.jsonl
    python compute_video_frame_quality.py --video_metadata_path clips.jsonl --video_folder CLIPS --num_sampled_frames 8
    torchrun --nproc_per_node 2 compute_video_frame_quality.py --video_folder CLIPS --metrics AestheticScore CLIPScore
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from utils.cli import (
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    from_flags,
    run,
    script_parser,
)
from utils.errors import UsageError, VideoError
from utils.models.image_transform import ImageTransform
from utils.pipeline.process import RunOptions, Step, digest, in_batches, input_rows, process_rows
from utils.pipeline.ranks import Ranks
from utils.scoring.technical import BLOCK, technical_columns
from utils.video.geometry import frame_to_array
from utils.video.sampling import choose_frames, keyframe_indices, sample_frames
from utils.video_utils import locate

COLUMNS = {
    "TechnicalScore": "technical_score",
    "AestheticScore": "aesthetic_score",
    "AestheticScoreSigLIP": "aesthetic_score_siglip",
    "CLIPScore": "clip_score",
    "SemanticConsistency": "semantic_consistency",
}


def read_clip(
    row: dict,
    video_folder: str | None,
    method: str,
    count: int,
    metrics: list[str],
    fits: dict[str, ImageTransform],
    caption: str,
) -> dict:
    """The columns of one clip that need no model; where models follow, under "clip" and "siglip" their frames, uint8
    (T, S, S, 3), too.
    """
    path, text = locate(row["video_path"], video_folder), row.get(caption)
    if "CLIPScore" in metrics and not (isinstance(text, str) and text.strip()):
        raise VideoError(f"{path!r} has no text in the column {caption!r}, which CLIPScore compares it with")
    keyframes = keyframe_indices(path) if method == "keyframe" else (0,)
    indices, _, frames = sample_frames(path, partial(choose_frames, method, count, keyframes=keyframes))
    if "SemanticConsistency" in metrics and method == "keyframe" and len(indices) == 1:
        raise VideoError(
            f"{path!r} has one keyframe, and SemanticConsistency compares two frames or more: sample uniform"
        )
    pictures = [frame_to_array(frame, "rgb24") for frame in frames]
    columns = {"sample_frame_idx": indices}
    if "TechnicalScore" in metrics:
        if min(pictures[0].shape[:2]) < BLOCK:
            height, width = pictures[0].shape[:2]
            raise VideoError(
                f"{path!r}: a picture of {width}x{height} pixels is too small for TechnicalScore: {BLOCK} each way are wanted"
            )
        columns |= {name: round(value, 4) for name, value in technical_columns(pictures).items()}
    if not fits:
        return columns
    seen = {name: np.stack([fit(picture) for picture in pictures]) for name, fit in fits.items()}
    made_from = {"caption_made_from": digest(row, [caption])} if "CLIPScore" in metrics else {}
    return {"columns": columns | made_from, "text": text, **seen}


def lowest_neighbour_cosine(embeddings: np.ndarray) -> float:
    """The lowest cosine between neighbours among embeddings, float (T, D), each of length 1; 1 for a video's only
    frame.
    """
    return float(np.min((embeddings[1:] * embeddings[:-1]).sum(1), initial=1.0))


def score_clips(batch: list[dict], metrics: list[str], models: dict, batch_size: int) -> list[dict]:
    """All columns of each clip of a batch, of which `read_clip` gave some; the models see `batch_size` frames at a
    time.
    """

    def of_each_clip(name: str, function: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
        frames = np.concatenate([clip[name] for clip in batch])
        found = [function(frames[i : i + batch_size]) for i in range(0, len(frames), batch_size)]
        return np.split(np.concatenate(found), np.cumsum([len(clip[name]) for clip in batch])[:-1])

    rows = [clip["columns"] for clip in batch]
    if "clip" in models:
        texts = models["clip"].embed_texts([clip["text"] for clip in batch]) if "CLIPScore" in metrics else rows
        for row, frames, text in zip(rows, of_each_clip("clip", models["clip"].embed_frames), texts):
            if "AestheticScore" in metrics:
                row["aesthetic_score"] = [round(float(score), 4) for score in models["predictor"].scores(frames)]
            if "CLIPScore" in metrics:
                row["clip_score"] = round(float((frames @ text).mean()), 4)
            if "SemanticConsistency" in metrics:
                row["semantic_consistency"] = round(lowest_neighbour_cosine(frames), 4)
    if "siglip" in models:
        for row, scores in zip(rows, of_each_clip("siglip", models["siglip"].scores)):
            row["aesthetic_score_siglip"] = [round(float(score), 4) for score in scores]
    return rows


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="{column}.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=list(COLUMNS),
        default=["TechnicalScore"],
        help="what is measured; the first names {column}",
    )
    parser.add_argument(
        "--num_sampled_frames", type=at_least(1), default=4, help="frames that uniform takes, keyframe at most"
    )
    parser.add_argument(
        "--frame_sample_method",
        choices=["uniform", "mid", "first", "last", "keyframe"],
        default="uniform",
        help="which frames are taken",
    )
    parser.add_argument("--caption_column", default="summary_caption", help="column of the text, for CLIPScore")
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model_path", help="CLIP's weights: a file, or a folder as open_clip saves it; without it, the hub's"
    )
    group.add_argument(
        "--clip_architecture",
        help="open_clip's name of what --model_path holds, where no open_clip_config.json says it",
    )
    group.add_argument("--predictor_path", help="sac+logos+ava1-l14-linearMSE.pth; without it, its public address")
    group.add_argument("--siglip_model_path", help="folder of SigLIP so400m patch14-384; without it, the hub's")
    group.add_argument("--siglip_predictor_path", help="aesthetic_predictor_v2_5.pth, which is not fetched for you")
    group.add_argument("--batch_size", type=at_least(1), default=64, help="frames that a model sees at a time")
    group.add_argument("--precision", choices=["fp16", "bf16", "fp32"], default="fp16", help="on a GPU; a CPU has fp32")
    args = parser.parse_args()
    args.saved_path = args.saved_path.replace("{column}", COLUMNS[args.metrics[0]])
    args.metrics = [metric for metric in COLUMNS if metric in args.metrics]
    choices = {"method": args.frame_sample_method, "count": args.num_sampled_frames}
    settings = {"metrics": " ".join(args.metrics), **choices, "version": 1}
    holds = {}
    rows, ranks = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column), Ranks()
    if "CLIPScore" in args.metrics:
        settings["caption_column"] = args.caption_column
        if rows and not any(args.caption_column in row for row in rows):
            raise UsageError(f"--caption_column {args.caption_column}: CLIPScore wants it, and no row has this column")
        captions = {row["video_path"]: digest(row, [args.caption_column]) for row in rows}
        holds["is_whole"] = lambda results: all(
            row.get("caption_made_from") == captions.get(row["video_path"], row.get("caption_made_from"))
            for row in results
        )
    if "SemanticConsistency" in args.metrics and (
        choices["method"] in ("mid", "first", "last") or choices["count"] == 1
    ):
        raise UsageError("SemanticConsistency compares frames: --frame_sample_method uniform or keyframe, of 2 or more")
    models = {}
    if args.metrics != ["TechnicalScore"]:  # which starts without torch
        from utils.models.clip import load_models

        models, digests = load_models(args, ranks)
        settings |= digests
    fits = {name: models[name].fit for name in ("clip", "siglip") if name in models}
    read = partial(
        read_clip,
        video_folder=args.video_folder,
        metrics=args.metrics,
        fits=fits,
        caption=args.caption_column,
        **choices,
    )
    score = partial(score_clips, metrics=args.metrics, models=models, batch_size=args.batch_size)
    clips = max(1, args.batch_size // args.num_sampled_frames)
    step = Step("quality", read, settings, in_batches(score, clips) if models else None, **holds)
    process_rows(step, rows, from_flags(RunOptions, args), ranks)


if __name__ == "__main__":
    run(main)
