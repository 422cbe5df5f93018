"""Build an image of the Dockerfile without Docker, and use it: every step runs in a clean Debian root, in its order.

    python -m tests.docker.clean_root --target cpu
    python -m tests.docker.clean_root --target cpu --videos FOLDER
    python -m tests.docker.clean_root --target gpu

FROM is a root that mmdebstrap makes from Debian's packages; RUN and what a container starts run in it by chroot, with the
variables that ENV and ARG set and as the user that USER names. Then what docs/docker.md shows is run as a user with a number
of its own, as `docker run --user` has it: the quickstart, the three stages, a single script; of `gpu`, what needs no GPU.
Needs root, Debian's mirror, mmdebstrap and dockerfile-parse, and some 12 GB of disk for cpu, 20 for gpu.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
# Passed into every step, as `docker build` passes proxies and build arguments for mirrors.
PASSED = re.compile(r"(PIP|UV)_\w+|\w+_proxy|\w+_PROXY|SSL_CERT_FILE|HF_ENDPOINT")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
CALLER = 12345  # a user that no image knows
# What docs/docker.md shows, as `docker run IMAGE ...` gets it.
USES = {
    "cpu": [
        "python -m tools.health",
        "bash quickstart.sh",
        "bash quickstart.sh /videos",
        "sh stage_1_video_cut.sh",
        "sh stage_2_filter_data.sh",
        "sh stage_3_video_caption.sh",
        "python compute_motion_score.py --version",
        "python compute_motion_score.py --video_folder datasets/panda_70m/train --saved_path datasets/motion.jsonl",
    ],
    "gpu": [
        "python -m tools.health",
        "python -c 'import accelerate, easyocr, open_clip, torch, torchvision, vllm, vllm.entrypoints.openai.api_server'",
        "gcc --version",
        "python caption_video_frame.py --help",
        "python easyocr_detection_patched.py --help",
        "python -m accelerate.commands.launch --help",
        "bash quickstart.sh",
    ],
}


def stages(dockerfile: Path, target: str) -> tuple[str, list[dict]]:
    """The base image, and the instructions that lead to `target`, of the stages that it is built from."""
    found: dict[str, tuple[str, list[dict]]] = {}
    name = ""
    for step in DockerfileParser(path=str(dockerfile)).structure:
        if step["instruction"] == "COMMENT":
            continue
        if step["instruction"] == "FROM":
            base, _, name = step["value"].partition(" AS ")
            found[name] = (base, [])
        else:
            found[name][1].append(step)
    base, steps = found[target]
    while base in found:
        base, before = found[base]
        steps = before + steps
    return base, steps


class Image:
    """A root with what an image keeps of its steps: variables, the working directory, the user, what is started."""

    def __init__(self, root: Path, arguments: dict[str, str]):
        self.root, self.arguments = root, arguments
        self.env: dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.given: dict[str, str] = {}
        self.folder, self.user, self.entry = "/", "root", []
        self.shell = ["/bin/sh", "-c"]

    def run(self, command: list[str], user: str, **more: str) -> subprocess.CompletedProcess:
        """`command` in the root, nothing of this process's environment but the variables that are passed."""
        env = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
        inside = ["chroot", f"--userspec={user}", str(self.root), "/usr/bin/env", "-C", self.folder, *command]
        return subprocess.run(inside, env={**env, **self.env, **self.given, **more}, check=True)

    def take(self, step: dict) -> None:
        """One instruction of the Dockerfile."""
        kind, value = step["instruction"], step["value"]
        print(f"\n=== {kind} {value}", flush=True)
        match kind:
            case "SHELL":
                self.shell = json.loads(value)
            case "ARG":
                name, _, default = value.partition("=")
                if default or name in self.arguments:
                    self.given[name] = self.arguments.get(name, default)
            case "ENV":
                for pair in shlex.split(value):
                    name, _, text = pair.partition("=")
                    self.env[name] = re.sub(r"\$(\w+)", lambda found: self.env[found[1]], text)
            case "WORKDIR":
                self.folder = value
                (self.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self.copy(value.split())
            case "RUN":
                self.run([*self.shell, value], self.user)
            case "USER":
                self.user = value
            case "ENTRYPOINT":
                self.entry = json.loads(value)
            case "CMD" | "VOLUME":
                pass
            case _:
                raise SystemExit(f"{kind} is not known to this script; teach it")

    def copy(self, words: list[str]) -> None:
        """COPY from the build context, which is what git tracks: .dockerignore leaves out the rest."""
        *sources, to = words
        target = (self.root / self.folder.lstrip("/") / to).resolve()
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, tracked.stdout.split("\0")):
            wanted = "." in sources or any(Path(name).match(source) and "/" not in name for source in sources)
            if wanted and (ROOT / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target / name)

    def start(self, command: str, user: str) -> None:
        """What `docker run --user USER IMAGE COMMAND` does."""
        print(f"\n$ docker run --user {user} reelset {command}", flush=True)
        before = time.monotonic()
        # Here tini is not process 1, whose orphans it would take up by itself.
        self.run([*self.entry, *shlex.split(command)], user, TINI_SUBREAPER="1")
        print(f"  {time.monotonic() - before:.0f} s", flush=True)


@contextmanager
def mounted(root: Path):
    """/proc and /dev in the root, and the certificates of this machine."""
    done = []
    try:
        for what in ("/proc", "/dev", "/dev/shm"):
            subprocess.run(["mount", "--rbind" if what == "/dev" else "--bind", what, f"{root}{what}"], check=True)
            done.append(f"{root}{what}")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        yield
    finally:
        for where in reversed(done):
            subprocess.run(["umount", "--recursive", "--lazy", where], check=False)


def trust(root: Path) -> None:
    """The certificates of this machine's network, which ca-certificates of the root does not know."""
    if Path(BUNDLE).is_file() and (root / BUNDLE.lstrip("/")).exists():
        shutil.copy(BUNDLE, root / BUNDLE.lstrip("/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=[*USES], required=True)
    parser.add_argument(
        "--root", type=Path, default=Path("/var/tmp/reelset_root"), help="made anew, and removed at the end"
    )
    parser.add_argument("--videos", type=Path, help="folder of videos that the quickstart runs on, too")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="of Debian's packages")
    parser.add_argument("--keep", action="store_true", help="leave the root, to look into it")
    args = parser.parse_args()
    base, steps = stages(ROOT / "Dockerfile", args.target)
    suite = re.fullmatch(r"debian:(\w+)-slim", base)[1]
    if args.root.exists():
        raise SystemExit(f"{args.root} exists; remove it, or give another --root")
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", suite, str(args.root), args.mirror], check=True)
    try:
        with mounted(args.root):
            image = Image(args.root, dict(pair.split("=", 1) for pair in args.build_arg))
            for step in steps:
                image.take(step)
                trust(args.root)
            image.given = {}
            use(image, args.target, args.videos)
    finally:
        if not args.keep:
            subprocess.run(["rm", "-rf", "--one-file-system", str(args.root)], check=True)


def use(image: Image, target: str, videos: Path | None) -> None:
    """What the docs show, as the image's user and as a caller's; the caller's files are the caller's."""
    size = subprocess.run(
        ["du", "-sxm", "--exclude=proc", "--exclude=dev", str(image.root)], capture_output=True, text=True
    )
    print(f"\n{target}: {int(size.stdout.split()[0]) / 1000:.1f} GB unpacked", flush=True)
    if videos:
        shutil.copytree(videos, image.root / "videos")
    image.start("python -m tools.health", image.user)
    for command in USES[target]:
        if videos or "/videos" not in command:
            image.start(command, f"{CALLER}:{CALLER}")
    folder = image.root / "reelset/datasets"
    made = [path for path in folder.rglob("*") if path.name != "README.md"]
    others = [path for path in made if (path.lstat().st_uid, path.lstat().st_gid) != (CALLER, CALLER)]
    if not made or others:
        raise SystemExit(f"of {len(made)} files {len(others)} are not the caller's: {others[:3]}")
    print(f"\n{len(made)} files in datasets, all the caller's")


if __name__ == "__main__":
    sys.exit(main())
