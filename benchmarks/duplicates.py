"""Near-duplicates: precision and recall of pairs on changed copies, and what grouping many clips costs.

    python -m benchmarks.duplicates --footage FOLDER --clips 100000

Each clip of --footage (those of the product's tests, without it) is changed in every way of CHANGES; clips are strangers to one another.
The large set is synthetic: random hashes, of which one clip in ten is a copy whose bits have noise.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from benchmarks.measure import table
from compute_duplicates import clip_hashes
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
        for name, frames in footage(folder):
            for change, (apply, options) in {"as it is": (list, {}), **CHANGES}.items():
                path = Path(work) / "clip.mp4"
                write(path, apply(frames), **options)
                hashes[name, change] = clip_hashes({"video_path": str(path)}, None)["hashes"]
        keys = list(hashes)
        clips = Clips(list(hashes.values()))
        alike = {(i, j): clips.similarity(i, j) for i, j in combinations(range(len(keys)), 2)}
        rows = []
        for change in CHANGES:
            own = [
                share
                for (i, j), share in alike.items()
                if keys[i][0] == keys[j][0] and {keys[i][1], keys[j][1]} == {"as it is", change}
            ]
            rows.append(
                [
                    change,
                    f"{sum(share >= MIN_SHARE for share in own)} of {len(own)}",
                    f"{np.median(own):.2f}",
                    f"{min(own):.2f}",
                ]
            )
        print(table(["change", "found", "median share", "lowest"], rows))
        strangers = [share for (i, j), share in alike.items() if keys[i][0] != keys[j][0]]
        related = [share for (i, j), share in alike.items() if keys[i][0] == keys[j][0]]
        true, false = sum(s >= MIN_SHARE for s in related), sum(s >= MIN_SHARE for s in strangers)
        print(
            f"pairs: precision {true / max(1, true + false):.3f} ({false} of {len(strangers):,} pairs of strangers), recall {true / len(related):.3f} of {len(related):,}; largest share of strangers {max(strangers, default=0):.2f}"
        )
        stays, _ = clips.groups()
        split = sum(
            len({stays[i] for i, key in enumerate(keys) if key[0] == name}) > 1 for name in {key[0] for key in keys}
        )
        print(
            f"groups: {len(set(stays.tolist()))} of {len({key[0] for key in keys})} clips; families in more than one group: {split}"
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
    parser.add_argument("--clips", type=int, default=100_000, help="clips of the large set; 0 for none")
    args = parser.parse_args()
    if args.families:
        of_families(args.families)
    found_pairs(args.footage)
    if args.clips:
        grouping(args.clips)


if __name__ == "__main__":
    main()
