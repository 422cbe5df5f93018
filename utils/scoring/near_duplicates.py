"""Clips that show the same view, by perceptual hashes of their frames.

A frame's hash is 256 bits of its DCT (pHash: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010),
which survive another encoding, size, colour or a small logo; frames of other videos differ in about half of them. Clips are
compared frame by frame, so that a shortened one is found in the longer. Hashes tell what is shown, not when: whether two clips are
copies or two moments of one view, `copies` says.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import faiss

SIDE = 16  # a hash has SIDE x SIDE bits
STEP = 0.5  # seconds between hashed frames; doubled until there are no more than MOST
MOST = 32
FLAT = 5.0  # standard deviation in gray levels, below which a frame shows nothing that a hash could tell
ALIKE = 12  # bits: a frame so near the one before it adds nothing
MATCH = 64  # of 256 bits, up to which two frames are the same
SURE = 32  # where only one frame matches, that many
MIN_SHARE = 0.2  # of the shorter clip's frames, from which on two clips show one view
NEIGHBOURS = 48  # frames of other clips that are looked at for each
EXACT = 200_000  # frames, up to which every pair is compared
AT_ONCE = 100_000  # frames that are looked up between two tidyings
EXACT_CLIPS = 50_000  # embeddings, likewise
PROBED = 32  # of the lists of a larger index


def hashed_times(seconds: float) -> np.ndarray:
    """When frames are hashed, seconds. Steps are powers of two of STEP: clips of one video, cut at different ends, have times in common."""
    step = STEP
    while seconds / step > MOST:
        step *= 2
    return np.arange(max(1, int(seconds / step + 1e-6))) * step


def hashes_of(frames: np.ndarray) -> list[str]:
    """The hashes of a clip's frames without bars, uint8 (T, H, W), gray, 64 hex digits each: without flat frames and repetitions."""
    import imagehash
    from PIL import Image

    found: list[imagehash.ImageHash] = []
    for frame in frames:
        if frame.std() < FLAT:
            continue
        hashed = imagehash.phash(Image.fromarray(np.ascontiguousarray(frame)), SIDE)
        if not any(hashed - other <= ALIKE for other in found):
            found.append(hashed)
    return [str(hashed) for hashed in found]


class Clips:
    """The hashes of clips, given as lists of hex, in the order in which they are wanted: of duplicates the first one stays."""

    def __init__(self, hashes: Sequence[Sequence[str]]):
        self.counts = np.array([len(of_clip) for of_clip in hashes], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        joined = "".join(digits for of_clip in hashes for digits in of_clip)
        self.bits = np.frombuffer(bytes.fromhex(joined), np.uint8).reshape(-1, SIDE * SIDE // 8)
        self.owner = np.repeat(np.arange(len(hashes)), self.counts)

    def of(self, clip: int) -> np.ndarray:
        return self.bits[self.starts[clip] : self.starts[clip + 1]]

    def similarity(self, one: int, other: int) -> float:
        """The share of the shorter clip's frames that the other has, 0–1."""
        shorter, longer = sorted((self.of(one), self.of(other)), key=len)
        if not len(shorter):
            return 0.0
        nearest = np.bitwise_count(shorter[:, None] ^ longer[None]).sum(2, dtype=np.int64).min(1)
        matched = int((nearest <= MATCH).sum())
        if matched == 1 and nearest.min() > SURE:
            return 0.0
        return matched / len(shorter)

    def groups(
        self,
        min_share: float = MIN_SHARE,
        alike: Mapping[tuple[int, int], float] | None = None,
        are_copies: Callable[[int, int], bool] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of each clip the one that stays for it, itself where it stays, and its similarity to that one. `alike`: further pairs, the wanted
        one first, that belong together, with their similarity. `are_copies` is asked of clips that have a frame in common, in place of
        `min_share`.

        Each clip is alike to the one that stays, not to another of its group alone: so groups do not chain from clip to clip.
        """
        stays, similarity = np.arange(len(self.counts)), np.ones(len(self.counts))
        while (
            True
        ):  # until those that stay find no more among themselves: the first search sees only so many neighbours
            left = np.flatnonzero(stays == np.arange(len(stays)))
            pairs = self.pairs if len(left) == len(stays) else self._candidates(left)
            taken = False
            for one, other in sorted({*pairs, *(alike or {})}):  # by the first of each pair
                if stays[one] != one or stays[other] != other:
                    continue
                share, cosine = self.similarity(one, other), (alike or {}).get((one, other), 0.0)
                if cosine or (are_copies(one, other) if are_copies else share >= min_share):
                    stays[other], similarity[other], taken = one, max(share, cosine), True
            if not taken:
                break
            # Those whose own stand-in has become a duplicate itself are free again.
            lost = stays[stays] != stays
            stays[lost], similarity[lost] = np.flatnonzero(lost), 1.0
        return stays, similarity

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of clips that have a frame in common, the wanted one first."""
        return self._candidates(np.arange(len(self.counts)))

    def _candidates(self, clips: np.ndarray) -> list[tuple[int, int]]:
        """Pairs of clips that have frames within MATCH bits, each once, the wanted one first, in order."""
        chosen = np.isin(self.owner, clips)
        bits, owner = np.ascontiguousarray(self.bits[chosen]), self.owner[chosen]
        if len(bits) < 2:
            return []
        index, pairs = _index(bits), [np.zeros((0, 2), np.int64)]
        for begin in range(0, len(bits), AT_ONCE):
            distances, found = index.search(bits[begin : begin + AT_ONCE], min(NEIGHBOURS, len(bits)))
            near = (distances <= MATCH) & (found >= 0)
            asking = np.repeat(owner[begin : begin + AT_ONCE], near.sum(1))
            of_two = np.stack([asking, owner[found[near]]], 1)
            pairs.append(np.unique(np.sort(of_two[of_two[:, 0] != of_two[:, 1]], axis=1), axis=0))
        return [(int(one), int(other)) for one, other in np.unique(np.concatenate(pairs), axis=0)]


def _index(bits: np.ndarray) -> "faiss.IndexBinary":
    """What finds the nearest of these hashes."""
    import faiss

    index: faiss.IndexBinary = faiss.IndexBinaryFlat(SIDE * SIDE)
    if len(bits) > EXACT:
        lists = int(4 * len(bits) ** 0.5)
        index = faiss.IndexBinaryIVF(index, SIDE * SIDE, lists)
        index.cp.niter, index.nprobe = 6, PROBED
        index.train(bits[np.random.default_rng(0).permutation(len(bits))[: 40 * lists]])
    index.add(bits)
    return index


def alike_embeddings(vectors: np.ndarray, min_cosine: float) -> dict[tuple[int, int], float]:
    """Pairs of clips whose embeddings, float32 (N, D), each of length 1, have at least this cosine; zero vectors have none.

    Of each clip the NEIGHBOURS nearest are looked at, by an inverted index above EXACT_CLIPS.
    """
    import faiss

    if len(vectors) < 2:
        return {}
    index: faiss.Index = faiss.IndexFlatIP(vectors.shape[1])
    if len(vectors) > EXACT_CLIPS:
        lists = int(4 * len(vectors) ** 0.5)
        index = faiss.IndexIVFFlat(index, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.nprobe = 6, PROBED
        index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[: 40 * lists]])
    index.add(vectors)
    pairs = {}
    for begin in range(0, len(vectors), AT_ONCE):
        cosines, found = index.search(vectors[begin : begin + AT_ONCE], min(NEIGHBOURS, len(vectors)))
        for row, place in zip(*np.nonzero((cosines >= min_cosine) & (found >= 0)), strict=True):
            one, other = sorted((begin + int(row), int(found[row, place])))
            if one != other:
                pairs[one, other] = min(1.0, float(cosines[row, place]))
    return pairs
