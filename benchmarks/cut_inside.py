"""Clips with a planted cut, dissolve, jump cut or wipe, and one-shot clips: which does `cut_inside` drop?

    python -m benchmarks.cut_inside --footage one_shot/ videos/     # every video of one_shot/, ss_* of videos/
    python -m benchmarks.cut_inside --footage one_shot/ --half tune # the half on whose sources the constants were chosen
    python -m benchmarks.cut_inside --smoke                         # seconds; photographs of scikit-image

The clips are of 4 to 8 seconds, 25 fps and 256 x 144 pixels, H.264. The network and the flow see the same file, as in
compute_motion_score.py; "both" is the larger of their values. One-shot clips are all the footage there is, cut up, and
again with something drawn into it that is no cut. The last lines are the CPU of motion with and without the network, on
the footage's own files.
"""

import argparse
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from time import process_time
from zlib import crc32

import av
import cv2
import numpy as np

from benchmarks.composed_films import GRADUAL, HEIGHT, NO_CUT, WIDTH, footage, no_cut, sources, take
from compute_motion_score import SCORE, motion_columns
from utils.cutting.cut_inside import CutInside
from utils.cutting.detectors import network
from utils.scoring.optical_flow import SAMPLING_FPS, SHORT_SIDE
from utils.video.opening import decode, open_video

FPS = Fraction(25)
HIDDEN = {  # kind: the transition of composed_films whose it is, and its lengths in frames
    "cut": ("", (0, 0)),
    "jump cut": ("", (0, 0)),
    "dissolve, 4-9 frames": ("dissolve, 4-9 frames", (4, 9)),
    "dissolve, 10-30 frames": ("dissolve, 10-60 frames", (10, 30)),
    "dissolve, 31-60 frames": ("dissolve, 10-60 frames", (31, 60)),
    "wipe": ("wipe", (6, 40)),
}
WAYS = ("flow", "network", "both")


def planted(kind: str, names: list[str], rng) -> np.ndarray:
    """Frames of two shots, uint8 (T, 144, 256, 3), BGR, of 100 to 200, with one transition between them."""
    one, other = (str(name) for name in rng.choice(names, 2, replace=False))
    lengths = rng.integers(50, 101, 2)
    if kind == "jump cut":
        first = rng.uniform(0, 40)
        skipped = lengths[0] + int(rng.integers(25, 70))
        return np.concatenate(
            [take(one, lengths[0], rng, start=first), take(one, lengths[1], rng, start=first + skipped)]
        )
    name, (low, high) = HIDDEN[kind]
    length = int(rng.integers(low, high + 1))
    a, b = take(one, lengths[0] + length, rng), take(other, lengths[1] + length, rng)
    if not length:
        return np.concatenate([a, b])
    return np.concatenate([a[:-length], GRADUAL[name][0](a[-length:], b[:length], rng), b[length:]])


def one_shot(source: str) -> Iterator[tuple[np.ndarray, Fraction]]:
    """All frames of a source in clips of up to 150, those of less than 50 left out, and their rate."""
    if not Path(source).is_file():
        yield np.stack([cv2.resize(frame, (WIDTH, HEIGHT)) for frame in footage(source)]), FPS
        return
    with av.open(source) as container:
        frames = (frame.reformat(WIDTH, HEIGHT, "bgr24", interpolation="AREA") for frame in container.decode(video=0))
        while len(clip := [frame.to_ndarray() for frame in islice(frames, 150)]) >= 50:
            yield np.stack(clip), container.streams.video[0].average_rate or FPS


def write(path: Path, frames: np.ndarray, fps: Fraction = FPS) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    return str(path)


def columns(path: str, cut_inside: str) -> dict:
    row = {"video_path": path}
    return motion_columns(row, None, "dis", SHORT_SIDE, SAMPLING_FPS, cut_inside)


def values(path: str) -> dict[str, float]:
    flow = columns(path, "flow")["cut_inside"]
    cut = CutInside(network())
    with open_video(path) as (container, stream):
        deque(cut.watch(decode(container, stream)), maxlen=0)
    alone = cut.value()
    return {"flow": flow, "network": alone, "both": max(flow, alone)}


def clips(names: list[str], count: int, only: str) -> Iterator[tuple[str, str, np.ndarray, Fraction]]:
    """Kind, name, frames and frame rate of every clip."""
    for kind in HIDDEN:
        for seed in range(count if only in kind else 0):
            yield kind, f"{seed}", planted(kind, names, np.random.default_rng([seed, crc32(kind.encode())])), FPS
    if only in "one shot":
        for name in names:
            for i, (frames, fps) in enumerate(one_shot(name)):
                yield "one shot", f"{Path(name).stem} {i}", frames, fps
    for kind in NO_CUT[1:]:
        for seed in range(count if only in kind else 0):
            rng = np.random.default_rng([seed, crc32(kind.encode())])
            yield f"one shot, {kind}", f"{seed}", no_cut(kind, names, rng, 1.0), FPS


def cost(path: str, runs: int) -> dict[str, float]:
    """CPU-seconds per second of video of the motion columns by the flow, and with the network."""
    spent = defaultdict(list)
    for _ in range(runs):
        for way in ("flow", "network"):
            started = process_time()
            seconds = columns(path, way)["duration"]
            spent[way].append((process_time() - started) / seconds)
    return {way: median(of) for way, of in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", type=Path, nargs="*", default=[], help="folders of one-shot videos")
    parser.add_argument("--half", choices=["tune", "judge", "all"], default="judge", help="which sources")
    parser.add_argument("--skip", nargs="*", default=["black"], help="words in the names of footage that is no shot")
    parser.add_argument("--clips", type=int, default=20, help="of each kind")
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--runs", type=int, default=3, help="of which the cost is the median")
    parser.add_argument("--list", action="store_true", help="print each clip that is judged wrongly")
    parser.add_argument("--smoke", action="store_true", help="one clip of each kind, of photographs")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.smoke:
        args.footage, args.half, args.clips, args.runs = [], "all", 1, 1
    names = sources(args.footage, args.half, args.skip)
    limit = SCORE.columns["cut_inside"].passes[1]
    dropped: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(WAYS), int))
    counts: dict[str, int] = defaultdict(int)
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, frames, fps in clips(names, args.clips, args.only):
            path = write(Path(folder, "clip.mp4"), frames, fps)
            found = values(path)
            dropped[kind] += [found[way] > limit for way in WAYS]
            counts[kind] += 1
            if args.list and (found["both"] > limit) == kind.startswith("one shot"):
                print(f"{kind}, {name}: " + ", ".join(f"{way} {found[way]:.3f}" for way in WAYS))
        spent = [cost(name, args.runs) for name in names if Path(name).is_file()] or [cost(path, args.runs)]
    print("| kind | clips | dropped by flow | network | both |\n|---|---|---|---|---|")
    for kind, row in dropped.items():
        print(f"| {kind} | {counts[kind]} | {' | '.join(map(str, row))} |")
    print()
    flow, both = (float(np.mean([of[way] for of in spent])) for way in ("flow", "network"))
    print("| CPU-s per second of video | motion by flow alone | with the network |\n|---|---|---|")
    print(f"| mean of {len(spent)} videos | {flow:.4f} | {both:.4f} |")


if __name__ == "__main__":
    main()
