"""Print the machine as Reelset sees it: version, CPUs and memory, each GPU and whether PyTorch can use it.

    python -m tools.health

A container prints this on start. The exit code is always 0: missing parts are only reported, and the stages work without a GPU.
"""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from utils import __version__
from utils.cli import script_parser

FIELDS = "index,name,driver_version,memory.free,memory.total,temperature.gpu"
ENOUGH_SHARED_MEMORY = 2**30  # NCCL and vLLM's ranks pass tensors through it; Docker's default is 64 MiB


def gpus() -> list[str]:
    """A line for each GPU that the driver shows; [] where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    asked = subprocess.run(query, capture_output=True, text=True)
    if asked.returncode:
        said = (asked.stdout + asked.stderr).strip().splitlines() or ["nothing"]
        return [f"the driver does not answer: {said[0]}"]
    lines = []
    for row in asked.stdout.splitlines():
        index, name, driver, free, total, celsius = (cell.strip() for cell in row.split(","))
        lines.append(f"GPU {index}: {name}, {gib(free)} of {gib(total)} GiB free, {celsius} °C, driver {driver}")
    return lines


def gib(mebibytes: str) -> str:
    return f"{int(mebibytes) / 1024:.1f}" if mebibytes.isdigit() else "?"


def pytorch() -> str:
    """Whether PyTorch computes on every GPU."""
    if not find_spec("torch"):
        return "PyTorch is not installed: PRESET=embedded does without"
    import torch

    name = f"PyTorch {torch.__version__}"
    if not torch.version.cuda:
        return f"{name} is built without CUDA: build the image without UV_TORCH_BACKEND, or use the target gpu"
    try:
        for device in range(max(1, torch.cuda.device_count())):
            one = torch.ones(64, 64, device=f"cuda:{device}")
            torch.cuda.synchronize(device)
            assert (one @ one).sum().item() == 64**3
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or "a product of matrices came out wrong").splitlines()[0]
        return f"{name} with CUDA {torch.version.cuda} cannot use it: {reason}; a newer driver on the host may help"
    return f"{name} with CUDA {torch.version.cuda} computes on {torch.cuda.device_count()}"


def shared_memory() -> str | None:
    """What to say of /dev/shm where it is small."""
    if not Path("/dev/shm").is_dir():
        return None
    size = shutil.disk_usage("/dev/shm").total
    if size >= ENOUGH_SHARED_MEMORY:
        return None
    return f"shared memory: {size // 2**20} MiB; several GPUs need more: docker run --shm-size 8g"


def main() -> None:
    script_parser(__doc__).parse_args()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    print(f"Reelset {__version__}: {len(os.sched_getaffinity(0))} processors, {memory / 2**30:.0f} GiB")
    found = gpus()
    if not found:
        print(
            "no GPU: PRESET=auto selects embedded, which needs none (docker run --gpus all passes the host's GPUs through)"
        )
        return
    print("\n".join(found))
    print(pytorch())
    if said := shared_memory():
        print(said)


if __name__ == "__main__":
    main()
