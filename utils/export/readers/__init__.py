"""Readers: how each trainer reads an export, following the trainer's own rules, independent of the writers.

Each module names the trainer's file that it was written from. A reader is given the export's folder, what its media are, what they were made for (`Target`) and the
start lines, and yields a `Sample` for everything that the trainer would train on or skip. It raises `RunError` where the trainer would stop.
"""

from utils.export.readers import (
    ai_toolkit,
    diffsynth,
    diffusion_pipe,
    huggingface,
    ltx,
    musubi,
    opensora,
    simpletuner,
    tables,
    videox_fun,
)
from utils.export.readers.sample import Read

READERS: dict[str, Read] = {
    "easyanimate": videox_fun.read,
    "videox_fun": videox_fun.read,
    "musubi": musubi.read,
    "diffusion_pipe": diffusion_pipe.read,
    "ltx2": ltx.read_ltx2,
    "ltx_video": ltx.read_ltx_video,
    "opensora": opensora.read,
    "finetrainers": huggingface.read_finetrainers,
    "diffusers": huggingface.read_diffusers,
    "diffsynth": diffsynth.read,
    "simpletuner": simpletuner.read,
    "ai_toolkit": ai_toolkit.read,
    "hf": huggingface.read_videofolder,
    "webdataset": tables.read_webdataset,
    "parquet": tables.read_parquet,
}
