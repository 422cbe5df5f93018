"""The formats that trainers read, one table. A format is a `Format`, whose `write` puts lists and settings beside the media.

To add one: a function in the module of its family (`lists`, `folders`, `shards`), a line in FORMATS, the models that its trainer trains in `utils/export/trainers.py`, and
its reader, written from the trainer's code, in `utils/export/readers/`.
"""

from dataclasses import replace

from utils.export.formats import folders, lists, musubi, shards
from utils.export.formats.entry import Format
from utils.export.plan import TrainerRules
from utils.export.trainers import pair_of

NATIVE, MODEL, DECLARED = TrainerRules(), TrainerRules("model"), TrainerRules("declared")
SQUEEZE = TrainerRules("squeeze")
AS_COLUMNS = {name: name for name in ("control_path", "reference_path", "mask_path", "first_frame")}
BY_SIZE, BY_LENGTH = "videos/{width}x{height}", "videos/{width}x{height}x{usable}"

FORMATS: dict[str, Format] = {
    "easyanimate": Format(lists.easyanimate, NATIVE, beside=lists.EASYANIMATE_BESIDE, only={"control_path": "same"}),
    "videox_fun": Format(lists.videox_fun, NATIVE, beside=lists.VIDEOX_BESIDE, only={"control_path": "same"}),
    "musubi": Format(musubi.musubi, DECLARED, beside=musubi.BESIDE, only={"control_path": "same"}),
    "diffusion_pipe": Format(
        folders.diffusion_pipe,
        MODEL,
        breaks="lf",
        media_folder=BY_LENGTH,
        has_files=True,
        several_captions=True,
        beside=folders.DIFFUSION_PIPE_BESIDE,
        only={"mask_path": "image"},
    ),
    "ltx2": Format(lists.ltx2, NATIVE, has_files=True, beside=lists.LTX2_BESIDE, only={"reference_path": "video"}),
    "ltx_video": Format(
        lists.ltx_video, NATIVE, has_files=True, beside=lists.LTX_VIDEO_BESIDE, only={"reference_path": "video"}
    ),
    "opensora": Format(lists.opensora, NATIVE),
    "finetrainers": Format(
        lists.finetrainers,
        NATIVE,
        breaks="none",
        has_files=True,
        beside=lists.FINETRAINERS_BESIDE,
        only={"control_path": "video"},
    ),
    "diffusers": Format(
        lists.diffusers,
        NATIVE,
        breaks="none",
        has_files=True,
        beside=lists.DIFFUSERS_BESIDE,
        only={"first_frame": "image"},
    ),
    "diffsynth": Format(
        lists.diffsynth,
        NATIVE,
        beside=lists.DIFFSYNTH_BESIDE,
        only={"control_path": "video", "reference_path": "image", "mask_path": "video"},
    ),
    "simpletuner": Format(
        folders.simpletuner,
        NATIVE,
        breaks="none",
        media_folder=BY_SIZE,
        has_files=True,
        several_captions=True,
        beside=folders.SIMPLETUNER_BESIDE,
        only=dict.fromkeys(folders.SIMPLETUNER_BESIDE, "same"),
        same_names=True,
    ),
    "ai_toolkit": Format(
        folders.ai_toolkit,
        SQUEEZE,
        breaks="lf",
        media_folder=BY_LENGTH,
        has_files=True,
        beside=folders.AI_TOOLKIT_BESIDE,
        only={"control_path": "image"},
    ),
    "hf": Format(shards.hugging_face, NATIVE, has_files=True, beside=AS_COLUMNS),
    "webdataset": Format(shards.webdataset, NATIVE, has_files=True, beside=AS_COLUMNS),
    "parquet": Format(shards.parquet, NATIVE, beside=AS_COLUMNS),
}


def rules_of(format: str, model: str | None) -> TrainerRules:
    """How the format's trainer comes to the model's rate."""
    rules, rate = FORMATS[format].trainer_rules, pair_of(format, model).rate
    return replace(rules, rate=rate) if rate else rules


def unknown_rate(format: str, model: str | None) -> str:
    """What a plan cannot say where there is no model, for a trainer that changes the rate to its model's; "" for the others."""
    if model or rules_of(format, model).rate not in ("model", "declared"):
        return ""
    return (
        f"{format} brings clips to the rate of its model, which is not known here: give --model for a plan that holds"
    )
