"""Check that the presets' models are genuine and work: each is loaded the way the scripts load it and is shown
photographs of known content, and its output is compared with the expected one.

    bash verify_models.sh                                  what the presets of this machine use; weights are downloaded once
    bash verify_models.sh --presets embedded               what needs no download
    bash verify_models.sh --presets gpu --vlm Qwen3-VL-8B
    bash verify_models.sh --reference_clips CLIPS --reference_scores aesthetic_score.jsonl

The photographs (a cat, a cup of coffee, an astronaut, a rocket, a page of a book) come with scikit-image. --reference_scores are
aesthetic scores that somebody else published for clips, such as EasyAnimate's for those of its example dataset: each clip's
mean must agree to 0.01. Ends with 1 where a check fails. See docs/verify.md.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from utils.cli import run, script_parser
from utils.errors import RunError
from utils.rows import read_rows

ROOT = Path(__file__).resolve().parents[1]
FPS, FRAMES = 12, 36
# What a caption of each photograph names, and what it is called for CLIP.
PHOTOGRAPHS = {
    "chelsea": (r"\b(cat|kitten|feline)\b", "a photo of a cat"),
    "coffee": (r"\b(cup|mug|coffee|espresso|tea)\b", "a cup of coffee on a table"),
    "astronaut": (r"\b(woman|astronaut|space ?suit|nasa)\b", "a portrait of an astronaut"),
    "rocket": (r"\b(rocket|launch|space ?craft|missile)\b", "a rocket on its launch pad"),
}
TEXT = "page"


@dataclass(frozen=True)
class Check:
    """One sentence that must hold of a model, with what was found."""

    model: str
    must: str
    found: str
    holds: bool


class Verifier:
    """Runs the project's scripts on the photographs, in `folder`."""

    def __init__(self, folder: Path, args: Any):
        self.folder, self.args = folder, args
        self.clips = folder / "clips"
        self.clips.mkdir()
        for name in (*PHOTOGRAPHS, TEXT):
            write_clip(self.clips / f"{name}.mp4", zoomed(photograph(name)))
        write_clip(self.clips / "blurred.mp4", zoomed(blurred(photograph("coffee"))))
        (folder / "film").mkdir()
        both = photograph("chelsea"), photograph("rocket")
        write_clip(folder / "film" / "film.mp4", (frame for image in both for frame in zoomed(image, (640, 426))))

    def rows(self, script: str, *flags: object, folder: str = "clips") -> dict[str, dict]:
        """What a script writes about the clips, by their names.

        Raises: `RunError` with the end of what it printed, where it fails.
        """
        saved = self.folder / f"{len(list(self.folder.iterdir()))}.jsonl"
        command = [sys.executable, ROOT / script, "--saved_path", saved, *flags]
        if "--video_metadata_path" not in flags:
            command += ["--video_folder", self.folder / folder]
        ran = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
        errors = saved.with_suffix(".errors.jsonl")
        failed = [row["message"].splitlines()[0] for row in read_rows(errors)] if errors.exists() else []
        if ran.returncode or failed:
            raise RunError((failed or [line for line in ran.stderr.splitlines() if line.strip()] or ["?"])[-1][:300])
        return {Path(row["video_path"]).stem: row for row in read_rows(saved)}

    def checks(self, preset: str) -> dict[str, Callable[[], list[Check]]]:
        """Of each model of a preset, by its name, what checks it."""
        if preset == "embedded":
            rapidocr = partial(self.text, "RapidOCR", "--text_detector", "rapidocr")
            return {"TransNetV2": self.transnetv2, "RapidOCR": rapidocr, "open_nsfw": self.nsfw}
        vlm = self.args.vlm or {"cpu": "SmolVLM2-500M", "gpu": "llava-v1.6-vicuna-7b"}[preset]
        found: dict[str, Callable[[], list[Check]]] = {}
        found |= {"CLIP ViT-L/14 and its predictor": self.clip, vlm: partial(self.captions, vlm)}
        if preset == "gpu":
            craft = ["--model_path", self.args.craft_path] if self.args.craft_path else []
            llm = self.args.llm or "Qwen2.5-7B-Instruct"
            found["EasyOCR"] = partial(self.text, "EasyOCR", "--text_detector", "easyocr", *craft)
            found[llm] = partial(self.summary, llm)
        return found

    def transnetv2(self) -> list[Check]:
        (row,) = self.rows("cutscene_detect.py", "--detector", "transnetv2", folder="film").values()
        starts = [start for start, _ in row["timecode_list"]]
        return [Check("TransNetV2", "a cut at 3 s", ", ".join(starts), starts == ["00:00:00.000", "00:00:03.000"])]

    def text(self, model: str, *flags: object) -> list[Check]:
        rows = self.rows("compute_text_score.py", *flags)
        page = rows[TEXT]["text_score"]
        most = max(rows[name]["text_score"] for name in ("chelsea", "coffee"))
        return [
            Check(model, "text on 0.2 to 0.8 of a page", f"{page:.3f}", 0.2 <= page <= 0.8),
            Check(model, "none on cat and coffee", f"{most:.3f}", most < 0.005),
        ]

    def nsfw(self) -> list[Check]:
        rows = self.rows("compute_video_frame_quality.py", "--metrics", "NSFWScore")
        most = max(rows[name]["nsfw_score"] for name in PHOTOGRAPHS)
        return [Check("open_nsfw", "below 0.2 on all photographs", f"{most:.3f}", most < 0.2)]

    def weights(self) -> list[str]:
        paths = {"--model_path": self.args.model_path, "--predictor_path": self.args.predictor_path}
        return [word for flag, path in paths.items() if path for word in (flag, path)]

    def clip(self) -> list[Check]:
        flags = ["--metrics", "CLIPScore", "AestheticScore", *self.weights()]
        scores = {}
        for name, (_, caption) in PHOTOGRAPHS.items():
            listed = self.folder / f"{name}.captions.jsonl"
            rows = [{"video_path": f"{clip}.mp4", "summary_caption": caption} for clip in (*PHOTOGRAPHS, "blurred")]
            listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
            scores[name] = self.rows(
                "compute_video_frame_quality.py", *flags, "--video_metadata_path", listed, "--video_folder", self.clips
            )
        margin = min(
            scores[name][name]["clip_score"] - scores[other][name]["clip_score"]
            for name in PHOTOGRAPHS
            for other in PHOTOGRAPHS
            if other != name
        )
        seen = scores["coffee"]
        means = {clip: statistics.mean(seen[clip]["aesthetic_score"]) for clip in (*PHOTOGRAPHS, "blurred")}
        low, high = min(means[name] for name in PHOTOGRAPHS), max(means.values())
        return [
            Check(
                "CLIP ViT-L/14", "every photograph nearest to its own text, by 0.03", f"{margin:.3f}", margin >= 0.03
            ),
            Check("LAION predictor v2", "photographs from 3 to 8", f"{low:.2f} to {high:.2f}", low >= 3 and high <= 8),
            Check(
                "LAION predictor v2",
                "coffee above blurred coffee",
                f"{means['coffee']:.2f}, {means['blurred']:.2f}",
                means["coffee"] > means["blurred"],
            ),
        ]

    def captions(self, model: str) -> list[Check]:
        listed = self.folder / "photographs.jsonl"
        listed.write_text("".join(json.dumps({"video_path": f"{name}.mp4"}) + "\n" for name in PHOTOGRAPHS))
        rows = self.rows(
            "caption_video_frame.py", "--video_metadata_path", listed, "--video_folder", self.clips,
            "--captioner", self.args.engine, "--image_caption_model_name", model, "--skip_sight_check",
        )  # fmt: skip
        said = {name: rows[name]["sampled_frame_caption"][0] for name in PHOTOGRAPHS}
        return [
            Check(model, f"names {name}", said[name][:60], bool(re.search(names, said[name], re.IGNORECASE)))
            for name, (names, _) in PHOTOGRAPHS.items()
        ]

    def summary(self, model: str) -> list[Check]:
        listed = self.folder / "frame_captions.jsonl"
        told = ["A brown cat sits on a red sofa and looks up.", "The cat jumps from the red sofa to a window."]
        listed.write_text(json.dumps({"video_path": "cat.mp4", "sampled_frame_caption": told}) + "\n")
        flags = ["--video_metadata_path", listed, "--summarizer", self.args.engine, "--summary_model_name", model]
        said = self.rows("caption_summary.py", *flags)["cat"]["summary_caption"]
        holds = said.startswith("In this video") and {"cat", "sofa", "window"} <= set(re.findall(r"\w+", said.lower()))
        return [Check(model, "one caption with cat, sofa and window", said[:60], holds)]

    def reference(self) -> list[Check]:
        """Published aesthetic scores of clips, and ours."""
        published = {
            Path(row["video_path"]).name: row["aesthetic_score"] for row in read_rows(self.args.reference_scores)
        }
        self.folder.joinpath("reference").symlink_to(Path(self.args.reference_clips).resolve())
        script = "compute_video_frame_quality.py"
        rows = self.rows(script, "--metrics", "AestheticScore", *self.weights(), folder="reference").values()
        ours = {Path(row["video_path"]).name: row for row in rows}
        checks = []
        for name in sorted(published.keys() & ours.keys()):
            theirs = float(np.mean(published[name]))
            found = statistics.mean(ours[name]["aesthetic_score"])
            checks.append(
                Check("LAION predictor v2", f"{name}: {theirs:.3f}", f"{found:.3f}", abs(found - theirs) <= 0.01)
            )
        return checks or [
            Check("LAION predictor v2", "a clip of --reference_scores", "none is in --reference_clips", False)
        ]


def photograph(name: str) -> np.ndarray:
    """uint8 (H, W, 3), RGB, of scikit-image's own."""
    from skimage import data

    image = getattr(data, name)()
    return np.stack([image] * 3, -1) if image.ndim == 2 else image


def blurred(image: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(image, (0, 0), 8)


def zoomed(image: np.ndarray, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    """The frames of a slow zoom into `image`, uint8 (H, W, 3): `size` is width and height, without it 640 and in proportion."""
    import cv2

    height, width = image.shape[:2]
    size = size or (640, round(640 * height / width) // 2 * 2)
    for number in range(FRAMES):
        edge = 0.05 * number / FRAMES
        part = image[int(edge * height) : height - int(edge * height), int(edge * width) : width - int(edge * width)]
        yield cv2.resize(part, size, interpolation=cv2.INTER_CUBIC)


def write_clip(path: Path, frames: Iterable[np.ndarray]) -> None:
    """An H.264 file of RGB frames of one size."""
    import av

    first, *others = frames
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        for frame in (first, *others):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())


def usual_presets() -> list[str]:
    import torch

    return ["embedded", "gpu"] if torch.cuda.is_available() else ["embedded", "cpu"]


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--presets", nargs="+", choices=["embedded", "cpu", "gpu"], help="default: embedded, and gpu or else cpu"
    )
    parser.add_argument(
        "--engine", default="transformers", help="engine of the captioning models: transformers or vllm"
    )
    parser.add_argument("--vlm", help="captioning model instead of the preset's: a name, hub id or folder")
    parser.add_argument("--llm", help="summary model instead of the preset's")
    parser.add_argument("--model_path", help="local CLIP weights")
    parser.add_argument("--predictor_path", help="local weights of the LAION predictor")
    parser.add_argument("--craft_path", help="local craft_mlt_25k.pth of EasyOCR")
    parser.add_argument("--reference_clips", help="folder of clips with published aesthetic scores")
    parser.add_argument("--reference_scores", help="their scores: video_path, aesthetic_score (a number or a list)")
    args = parser.parse_args()
    if bool(args.reference_clips) != bool(args.reference_scores):
        parser.error("pass --reference_clips and --reference_scores together")
    presets = args.presets or ([] if args.reference_scores else usual_presets())
    checks = []
    with tempfile.TemporaryDirectory() as folder:
        verifier = Verifier(Path(folder), args)
        tests = {name: test for preset in presets for name, test in verifier.checks(preset).items()}
        if args.reference_scores:
            tests["published scores"] = verifier.reference
        for name, test in tests.items():
            try:
                found = test()
            except RunError as error:
                found = [Check(name, "can be loaded and run", str(error), False)]
            for check in found:
                print(
                    f"{'ok    ' if check.holds else 'FAILED'}  {check.model}: {check.must}: {check.found}", flush=True
                )
            checks += found
    failed = sum(not check.holds for check in checks)
    print(f"verify: {len(checks)} checks = {len(checks) - failed} ok + {failed} failed")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
