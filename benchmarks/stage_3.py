"""What captioning costs beside the engine's own work: clips and tokens per second of caption_video_frame.py, and of the engine's library
called bare on the same pictures and prompts, in turns in one process.

    python -m benchmarks.stage_3 --engine transformers
    python -m benchmarks.stage_3 --engine vllm --model Qwen/Qwen3-VL-8B-Instruct --clips 500 --max_new_tokens 128
    python -m benchmarks.stage_3 --engine vllm --shape qwen3-vl-8b --clips 500 --max_new_tokens 128 --n_jobs 1 2 4 8 16

Without --model, a Qwen2.5-VL of 30 million random weights is made for the purpose, or with --shape a model of 7 or 8 billion, whose
answers all have --max_new_tokens tokens. --n_jobs are numbers of reading processes, one after the other; where there is an NVIDIA GPU,
the table has the share of the time that it was busy, in the mean of samples a fifth of a second apart. The
bare side has its pictures decoded before the clock starts; ours reads them from the clips meanwhile. For several runs in one process the
model is loaded once; what the script does with rows and files is all there. On a CPU, vLLM needs --engine_args '{"enforce_eager": true,
"gpu_memory_utilization": 0.2}' and VLLM_CPU_KVCACHE_SPACE=1 in the environment.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from shutil import which
from statistics import median
from time import perf_counter

from benchmarks.measure import ROOT, ratio, table
from benchmarks.model_shapes import SHAPES, make_shape

sys.path.append(str(ROOT / "tests"))  # tiny_models

PROMPT = "Describe this image in one paragraph."


def make_clips(folder: Path, count: int) -> None:
    """`count` clips of 3 s, 640 x 360, that all look different."""
    import av
    import numpy as np

    folder.mkdir()
    for i in range(count):
        rng = np.random.default_rng(i)
        wide = rng.integers(0, 255, (45, 120, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        with av.open(str(folder / f"clip-{i:05}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for t in range(72):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, 4 * t : 4 * t + 640]), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))


def make_model(folder: Path) -> Path:
    """Qwen2.5-VL's classes with a language model of 6 layers of 512, random weights, no end-of-sequence token."""
    import tiny_models
    from transformers import AutoConfig, AutoModelForImageTextToText

    tiny_models.build("qwen2_5_vl", folder)
    config = AutoConfig.from_pretrained(folder)
    language = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    for name, value in {**language, "layer_types": ["full_attention"] * 6, "head_dim": 128}.items():
        setattr(config.text_config, name, value)
    rope = getattr(config.text_config, "rope_parameters", None) or {}
    if "mrope_section" in rope:
        config.text_config.rope_parameters = {**rope, "mrope_section": [16, 24, 24]}
    config.vision_config.out_hidden_size = 512
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    return folder


def bare_transformers(engine, pictures: list, tokens: int) -> int:
    from PIL import Image

    made = 0
    for start in range(0, len(pictures), engine.batch_size):
        chats = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": Image.fromarray(p)}, {"type": "text", "text": PROMPT}],
                }
            ]
            for p in pictures[start : start + engine.batch_size]
        ]
        inputs = engine.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(engine.device)
        out = engine.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=tokens,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=engine.tokenizer.pad_token_id,
        )
        made += (out.shape[1] - inputs["input_ids"].shape[1]) * len(chats)
    return made


def bare_vllm(engine, pictures: list, tokens: int) -> int:
    from PIL import Image

    chats = [
        [
            {
                "role": "user",
                "content": [{"type": "image_pil", "image_pil": Image.fromarray(p)}, {"type": "text", "text": PROMPT}],
            }
        ]
        for p in pictures
    ]
    params = engine.vllm.SamplingParams(max_tokens=tokens, temperature=0)
    return sum(len(out.outputs[0].token_ids) for out in engine.llm.chat(chats, params, use_tqdm=False))


def forget_pictures(engine) -> None:
    """Empty vLLM's caches, which would hand each run the work of the one before."""
    engine.llm.reset_prefix_cache()
    engine.llm.reset_mm_cache()
    engine.llm.llm_engine.reset_encoder_cache()


class Counted:
    """An engine whose answers' tokens are counted on their way."""

    def __init__(self, engine):
        self.room, self.submit, self.engine, self.tokens = engine.room, engine.submit, engine, 0

    def finished(self):
        ended = list(self.engine.finished())
        self.tokens += sum(answer.tokens for _, answer in ended)
        return ended


class GpuBusy:
    """The share of the time that the first GPU computes, as nvidia-smi shows it, while a block runs; None without one."""

    def __enter__(self):
        self.share: float | None = None
        query = [
            "nvidia-smi",
            "--id=0",
            "--query-gpu=utilization.gpu",
            "--format=csv,noheader,nounits",
            "--loop-ms=200",
        ]
        self.process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True) if which("nvidia-smi") else None
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            seen = [int(line) for line in self.process.communicate()[0].split() if line.isdigit()]
            self.share = sum(seen) / len(seen) / 100 if seen else None


def ours(engine, args: argparse.Namespace, clips: Path, saved_path: Path, n_jobs: int) -> int:
    """What caption_video_frame.py does between loading its model and its closing line."""
    import caption_video_frame as script
    from utils.captioning.chat import Sampling, ask
    from utils.pipeline.process import RunOptions, Step, process_rows
    from utils.pipeline.row_list import open_rows
    from utils.video.sampling import FrameSampling

    options = RunOptions(str(saved_path), str(clips), overwrite=True, n_jobs=n_jobs)
    engine, sampling = Counted(engine), Sampling(args.max_new_tokens)
    read = partial(
        script.read_images,
        video_folder=str(clips),
        max_pixels=10**9,
        as_jpeg=False,
        frame_sampling=FrameSampling("mid", 1),
    )
    answers = partial(
        ask, engine=engine, checks=[],
        requests=partial(script.questions, unit="frame", prompt=PROMPT, sampling=sampling),
        columns=partial(script.caption_columns, model="benchmark", prompt=PROMPT),
    )  # fmt: skip
    step = Step("caption", read, {}, answers, patience=0, done_word="captioned")
    process_rows(step, open_rows(options.video_folder, None), options)
    return engine.tokens


def main() -> None:
    from utils.cli import json_object

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    made = parser.add_mutually_exclusive_group()
    made.add_argument("--model", help="a folder or hub id (default: a model made for the purpose)")
    made.add_argument("--shape", choices=[*SHAPES], help="random weights in the shape of this model")
    parser.add_argument("--layers", type=int, help="of --shape, so many layers alone, to try it")
    parser.add_argument("--clips", type=int, default=12, help="clips a run, one frame each (default: 12)")
    parser.add_argument("--max_new_tokens", type=int, default=32, help="of every answer (default: 32)")
    parser.add_argument("--batch_size", type=int, default=1, help="of transformers (default: 1)")
    parser.add_argument("--engine_args", type=json_object, default={}, help="options of vllm.LLM, a JSON object")
    parser.add_argument("--n_jobs", type=int, nargs="+", default=[2], help="reading processes (default: 2)")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (default: 3)")
    args = parser.parse_args()

    from utils.captioning.frames import read_images
    from utils.models.weights import snapshot
    from utils.video.sampling import FrameSampling

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_clips(work / "clips", args.clips)
        if args.shape:
            model = make_shape(args.shape, work / "model", args.layers)
        else:
            model = snapshot(args.model) if args.model else make_model(work / "model")
        look = partial(
            read_images,
            video_folder=str(work / "clips"),
            max_pixels=10**9,
            as_jpeg=False,
            frame_sampling=FrameSampling("mid", 1),
        )
        pictures = [look({"video_path": path.name})["images"][0] for path in sorted((work / "clips").iterdir())]
        if args.engine == "transformers":
            from utils.captioning.engines.transformers_engine import TransformersEngine, TransformersOptions

            engine = TransformersEngine(model, TransformersOptions(batch_size=args.batch_size), images=True)
            engine.ends = set()
            bare = bare_transformers
        else:
            from utils.captioning.engines.vllm_engine import VllmEngine, VllmOptions

            options = VllmOptions(engine_args={"max_model_len": 4096, **args.engine_args})
            engine, bare = VllmEngine(model, options, images=1), bare_vllm
        sides = {
            f"{args.engine}, bare": lambda run: bare(engine, pictures, args.max_new_tokens),
            **{
                f"caption_video_frame.py, {jobs} reading": lambda run, jobs=jobs: ours(
                    engine, args, work / "clips", work / f"run-{run}.jsonl", jobs
                )
                for jobs in args.n_jobs
            },
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        busy: dict[str, list[float | None]] = {side: [] for side in sides}
        tokens = dict.fromkeys(sides, 0)
        bare(engine, pictures[:1], args.max_new_tokens)  # warm
        for run in range(args.runs):
            for side, work_of in sides.items():
                if args.engine == "vllm":
                    forget_pictures(engine)
                start = perf_counter()
                with GpuBusy() as gpu:
                    tokens[side] = work_of(run)
                    seconds[side].append(perf_counter() - start)
                busy[side].append(gpu.share)
                print(f"run {run + 1} of {args.runs}: {side}: {seconds[side][-1]:.1f} s", file=sys.stderr)
    reference = next(iter(seconds.values()))
    rows = [
        [
            side,
            f"{args.clips / median(spent):.2f}",
            f"{tokens[side] / median(spent):.1f}",
            f"{ratio(reference, spent):.3f}",
            "-" if None in busy[side] else f"{median(busy[side]):.0%}",
        ]
        for side, spent in seconds.items()
    ]
    print(table(["", "clips/s", "tokens/s", "÷ bare", "GPU busy"], rows))


if __name__ == "__main__":
    main()
