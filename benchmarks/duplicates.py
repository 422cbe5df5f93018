"""Duplicates: precision and recall of pairs on changed copies, other moments of one view, and what grouping many clips costs.

    python -m benchmarks.duplicates --footage FOLDER --clips 100000
    python -m benchmarks.duplicates --dataset_folder /tmp/judged --half judge --clips 0

A dataset's clips (`benchmarks.judged` makes one) are changed in the ways of REMADE, by ffmpeg; clips of one source are other moments of it.
Each clip of --footage (those of the product's tests, without it) is changed in every way of CHANGES; clips are strangers to one another.
The large set is synthetic: random hashes, of which one clip in ten is a copy whose bits have noise.
"""

import argparse
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from benchmarks.judged import half_of
from benchmarks.measure import table
from compute_duplicates import clip_hashes
from utils.rows import read_rows
from utils.scoring.copies import are_copies, unpacked
from utils.scoring.near_duplicates import MIN_SHARE, Clips
from utils.video.geometry import frame_to_array
from utils.video.opening import decode, open_video
from utils.video_utils import get_video_path_list, locate

Frames = list[np.ndarray]


def written_over(frame: np.ndarray, scale: float) -> np.ndarray:
    marked = frame.copy()
    height, width = frame.shape[:2]
    cv2.putText(
        marked,
        "LOGO",
        (int(width * (0.97 - 0.28 * scale)), int(height * 0.22 * scale)),
        cv2.FONT_HERSHEY_SIMPLEX,
        height / 130 * scale,
        (255, 255, 255),
        max(2, height // 90),
    )
    return marked


def bordered(frame: np.ndarray, share: float) -> np.ndarray:
    rows = int(frame.shape[0] * share)
    return np.pad(frame, ((rows, rows), (0, 0), (0, 0)))


def inner(frame: np.ndarray, share: float) -> np.ndarray:
    rows, columns = (int(side * share / 2) for side in frame.shape[:2])
    return np.ascontiguousarray(frame[rows : len(frame) - rows, columns : frame.shape[1] - columns])


def of_each(change: Callable[[np.ndarray], np.ndarray], frames: Frames) -> Frames:
    return [change(frame) for frame in frames]


CHANGES: dict[str, tuple[Callable[[Frames], Frames], dict]] = {
    "CRF 38": (list, {"crf": "38"}),
    "240 lines": (
        partial(
            of_each,
            lambda f: cv2.resize(f, (round(f.shape[1] * 240 / f.shape[0] / 2) * 2, 240), interpolation=cv2.INTER_AREA),
        ),
        {},
    ),
    "grey": (partial(of_each, lambda f: np.repeat(f.mean(2, keepdims=True).astype(np.uint8), 3, 2)), {}),
    "sepia": (
        partial(of_each, lambda f: np.clip(f.mean(2, keepdims=True) * [1.1, 0.95, 0.7], 0, 255).astype(np.uint8)),
        {},
    ),
    "darker": (partial(of_each, lambda f: (f * 0.6).astype(np.uint8)), {}),
    "small logo": (partial(of_each, partial(written_over, scale=0.6)), {}),
    "large logo": (partial(of_each, partial(written_over, scale=1.4)), {}),
    "bars": (partial(of_each, partial(bordered, share=0.17)), {}),
    "cropped 5 %": (partial(of_each, partial(inner, share=0.05)), {}),
    "cropped 10 %": (partial(of_each, partial(inner, share=0.1)), {}),
    "first 60 %": (lambda frames: frames[: len(frames) * 6 // 10], {}),
    "last 60 %": (lambda frames: frames[len(frames) * 4 // 10 :], {}),
    "15 fps": (lambda frames: frames[::2], {"fps": 15}),
    "mirrored": (partial(of_each, lambda f: np.ascontiguousarray(f[:, ::-1])), {}),
}


SCALED = "scale=trunc(iw/{0})*2:trunc(ih/{0})*2"
REMADE = {  # filters, CRF
    "CRF 35": (SCALED.format(2), 35),
    "half size": (SCALED.format(4), 23),
    "30 fps, or 24": ("fps={fps}," + SCALED.format(2), 23),
    "without the first 1 s": ("trim=start=1,setpts=PTS-STARTPTS," + SCALED.format(2), 23),
    "without the first 1.12 s": ("trim=start=1.12,setpts=PTS-STARTPTS," + SCALED.format(2), 23),
    "cropped 4 %": ("crop=trunc(iw*0.48)*2:trunc(ih*0.48)*2", 23),
    "all: 0.63 s, 3 %, 2/3, fps, CRF 30": (
        "trim=start=0.63,setpts=PTS-STARTPTS,crop=trunc(iw*0.97/4)*4:trunc(ih*0.97/4)*4,fps={fps}," + SCALED.format(3),
        30,
    ),
}


def write(path: Path, frames: Frames, crf: str = "23", fps: int = 30) -> None:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": crf, "preset": "ultrafast"})
        stream.height, stream.width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            out.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[: stream.height, : stream.width]), "rgb24")
                )
            )
        out.mux(stream.encode(None))


def footage(folder: str | None) -> Iterator[tuple[str, Frames]]:
    """Names and frames at 360 lines, no more than five seconds of each."""
    for name in get_video_path_list(folder) if folder else ():
        frames = []
        with open_video(locate(name, folder)) as (container, stream):
            for frame in decode(container, stream):
                size = round(frame.width * 360 / frame.height / 2) * 2, 360
                frames.append(frame_to_array(frame, "rgb24", size))
                if len(frames) == 150:
                    break
        yield name, frames
    for name in () if folder else ("coffee", "chelsea", "astronaut"):
        photo = cv2.resize(getattr(data, name)(), (960, 540))
        yield name, [cv2.getRectSubPix(photo, (640, 360), (330 + 2.0 * i, 270)) for i in range(60)]


def found_pairs(folder: str | None) -> None:
    with tempfile.TemporaryDirectory() as work:
        hashes: dict[tuple[str, str], list[str]] = {}
        thumbnails: list[np.ndarray] = []
        for name, frames in footage(folder):
            for change, (apply, options) in {"as it is": (list, {}), **CHANGES}.items():
                path = Path(work) / "clip.mp4"
                write(path, apply(frames), **options)
                made = clip_hashes({"video_path": str(path)}, None)
                hashes[name, change] = made["hashes"]
                thumbnails.append(unpacked(made["thumbnails"]))
        keys = list(hashes)
        clips = Clips(list(hashes.values()))
        alike = {(i, j): clips.similarity(i, j) for i, j in combinations(range(len(keys)), 2)}
        copies = {(i, j) for i, j in clips.pairs if are_copies(thumbnails[i], thumbnails[j])}
        rows = []
        for change in CHANGES:
            own = [
                pair
                for pair in alike
                if keys[pair[0]][0] == keys[pair[1]][0] and {keys[i][1] for i in pair} == {"as it is", change}
            ]
            shares = [alike[pair] for pair in own]
            rows.append(
                [
                    change,
                    f"{sum(pair in copies for pair in own)} of {len(own)}",
                    f"{sum(share >= MIN_SHARE for share in shares)} of {len(own)}",
                    f"{np.median(shares):.2f}",
                    f"{min(shares):.2f}",
                ]
            )
        print(table(["change", "copies", "one view", "median share", "lowest"], rows))
        strangers = [pair for pair in alike if keys[pair[0]][0] != keys[pair[1]][0]]
        false = sum(pair in copies for pair in strangers)
        print(
            f"pairs: precision {1 - false / max(1, len(copies)):.3f} ({false} of {len(strangers):,} pairs of strangers), recall {(len(copies) - false) / (len(alike) - len(strangers)):.3f} of {len(alike) - len(strangers):,}; largest share of strangers {max((alike[pair] for pair in strangers), default=0):.2f}"
        )
        stays, _ = clips.groups(are_copies=lambda i, j: (i, j) in copies)
        split = sum(
            len({stays[i] for i, key in enumerate(keys) if key[0] == name}) > 1 for name in {key[0] for key in keys}
        )
        print(
            f"groups: {len(set(stays.tolist()))} of {len({key[0] for key in keys})} clips; families in more than one group: {split}"
        )


def of_dataset(dataset: Path, half: str) -> None:
    """Copies of a dataset's clips, and other moments of what they show."""
    import imageio_ffmpeg

    rows = [row for row in read_rows(dataset / "clips.jsonl") if half_of(row["source_path"]) == half]
    keys, made = [], []
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "clip.mp4"
        for row in rows:
            clip = dataset / "train" / row["video_path"]
            fps = 30 if Fraction(row["frame_rate"]) < 28 else 24
            for change, (filters, crf) in {"": ("", 0), **REMADE}.items():
                if change:
                    encoding = ("-crf", str(crf), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
                    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(clip), "-an", "-vf", filters.format(fps=fps), *encoding, str(path)]  # fmt: skip
                    subprocess.run(command, check=True)
                made.append(clip_hashes({"video_path": str(path if change else clip)}, None))
                keys.append((row["video_path"], row["source_path"], change))
    clips, thumbnails = Clips([one["hashes"] for one in made]), [unpacked(one["thumbnails"]) for one in made]
    copies = {(i, j) for i, j in clips.pairs if are_copies(thumbnails[i], thumbnails[j])}
    found = {change: sum({keys[i][2], keys[j][2]} == {"", change} and keys[i][0] == keys[j][0] for i, j in copies) for change in REMADE}  # fmt: skip
    print(table(["copy", "found"], [[change, f"{count} of {len(rows)}"] for change, count in found.items()]))
    as_cut = [(i, j) for i, j in combinations([i for i, key in enumerate(keys) if not key[2]], 2)]
    alike = [(i, j) for i, j in as_cut if clips.similarity(i, j) >= MIN_SHARE]
    print(
        f"clips as they were cut: {len(alike)} pairs show one view, {sum(pair in copies for pair in as_cut)} are copies"
    )
    for i, j in sorted(copies.intersection(as_cut)):
        print(f"  {keys[i][0]} {keys[j][0]}")
    others = [(i, j) for i, j in clips.pairs if keys[i][0] != keys[j][0]]
    print(
        f"with the copies: {len(others)} pairs of different clips have a frame in common, {sum(pair in copies for pair in others)} are copies"
    )


def of_families(folder: str) -> None:
    """Pairs of a folder whose files are named FAMILY-anything."""
    names = get_video_path_list(folder)
    clips = Clips([clip_hashes({"video_path": name}, folder)["hashes"] for name in names])
    shares = {
        (a.split("-")[0] == b.split("-")[0], a, b): clips.similarity(i, j)
        for (i, a), (j, b) in combinations(enumerate(names), 2)
    }
    found = {pair for pair, share in shares.items() if share >= MIN_SHARE}
    true, related = sum(same for same, *_ in found), sum(same for same, *_ in shares)
    print(
        f"families: precision {true / max(1, len(found)):.3f}, recall {true / max(1, related):.3f} of {related} pairs among {len(shares)}"
    )
    stays, _ = clips.groups()
    print(
        f"groups: {len(set(stays.tolist()))} of {len(names)} clips of {len({name.split('-')[0] for name in names})} families"
    )


def grouping(count: int, frames: int = 10) -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 256, (count, frames, 32), np.uint8)
    copies = random.permutation(count)[: count // 10]
    originals = random.permutation(np.setdiff1d(np.arange(count), copies))[: len(copies)]
    noise = np.packbits(random.random((len(copies), frames, 256)) < 0.06, axis=2)
    bits[copies] = bits[originals] ^ noise
    hashes = [[row.tobytes().hex() for row in clip] for clip in bits]
    started = time.process_time()
    clips = Clips(hashes)
    del hashes
    stays, _ = clips.groups()
    seconds = time.process_time() - started
    grouped = stays == np.arange(count)
    together = float(np.mean([stays[c] == stays[o] for c, o in zip(copies, originals, strict=True)]))
    false = int((~grouped).sum() - sum(stays[c] == stays[o] for c, o in zip(copies, originals, strict=True)))
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        table(
            ["clips", "hashes", "CPU-s", "MiB", "copies found", "false"],
            [[f"{count}", f"{count * frames}", f"{seconds:.1f}", f"{mib:.0f}", f"{together:.3f}", str(false)]],
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", help="folder of clips that are strangers to one another")
    parser.add_argument("--families", help="folder of near-duplicates, named FAMILY-anything")
    parser.add_argument("--dataset_folder", type=Path, help="clips.jsonl and train/ of stage 1")
    parser.add_argument("--half", choices=["choose", "judge"], default="choose", help="of its films")
    parser.add_argument("--clips", type=int, default=100_000, help="clips of the large set; 0 for none")
    args = parser.parse_args()
    if args.families:
        of_families(args.families)
    if args.dataset_folder:
        of_dataset(args.dataset_folder, args.half)
        return
    found_pairs(args.footage)
    if args.clips:
        grouping(args.clips)


if __name__ == "__main__":
    main()
