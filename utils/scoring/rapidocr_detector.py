"""RapidOCR's text detector without its recogniser.

PP-OCRv6 small (DBNet: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020), whose
10 MB ONNX file comes inside the rapidocr wheel: nothing is downloaded. onnxruntime runs that file directly, because
rapidocr 3.10's own `TextDetector` rounds boxes, bends rotated ones at the frame's edge, and sorts them without their
scores.
"""

from pathlib import Path

import cv2
import numpy as np
from shapely import union_all

from utils.models.weights import from_package
from utils.scoring.text_area import hulls_of

SHORT_SIDE = 736  # pixels, PP-OCR's own choice
LONGEST_SIDE = 2560  # pixels, for panoramas
VERSION = 2  # of the rules below and in `boxes_of`: raised when the same frame gets other boxes than before
BOX_THRESHOLD = 0.6  # mean probability inside a box
PIXEL_THRESHOLD = 0.3  # probability from which a pixel belongs to a text's kernel; PP-OCR's own choice

# Kernels grow back to lines of text by area * ratio / perimeter on each side; 1.5 covers 1.4 x the ink.
UNCLIP_RATIO = 1.1
# Of the short side: from here on a line must be twice as long as high. Eyes, wheels and cups are not, and what is lost, a
# short word in large letters, covers less than 0.02 of a 16:9 frame up to 0.13.
TALL = 0.12
# Of the short side: a box from here on must be found again with the frame at SMALL_SIDE pixels, where letters that large
# still are letters, while rows of coins, hedges and planes are no longer what they were.
LARGE = 0.1
SMALL_SIDE = 256
FOUND_AGAIN = 0.4  # of a large box's area; true text in large letters has 0.7 and more, false text mostly 0
TALLEST = 0.4  # of the short side: the network covers frames without text, but with broad shapes, with one such box
BLOB_THRESHOLD = 0.8  # mean probability inside what may be a word that high
BLOB_GROWTH = 0.3  # of its kernel's height, to each side

# A first look at a fifth of the cost says where text may be; the network sees those parts alone at full size.
LOOK_SIDE = 320  # pixels of the short side
LOOK_THRESHOLD = 0.01  # of the probability; where text was found at full size, the first look shows more nearly always
GLIMPSE_SIDE, GLIMPSE_THRESHOLD = (
    160,
    0.5,
)  # a smaller look, for lines alone: of those of 5 % of the height it shows nineteen of twenty
CELL = 8  # pixels of the first look, in which parts are counted
CONTRAST = 10  # gray levels within a cell; the network sees text in plain sky and walls, at a low probability
MARGIN = 2  # cells around what was seen: the network reads letters better with what surrounds them
WHOLE = 0.7  # share of the frame from which on it is seen whole, as parts would save little


class RapidTextDetector:
    """PP-OCRv6 small on the CPU. It scales frames to `short_side` pixels itself, so larger ones are of no use to it.

    detector = RapidTextDetector(threads=1)
    polygons, scores = detector(frame)
    share = text_area_share(polygons, (frame.shape[1], frame.shape[0]))
    """

    def __init__(
        self,
        box_threshold: float = BOX_THRESHOLD,
        short_side: int = SHORT_SIDE,
        threads: int = 1,
        model_path: str | Path | None = None,
        look: str = "parts",
    ) -> None:
        """look: at the "parts" of a frame where a first look shows that text may be, or at the "whole" of it, at twice the
        cost. threads: of onnxruntime, 0 for one a core. model_path: another PP-OCR detector than the wheel's, ONNX.

        Raises: `UsageError` where rapidocr or its model is missing.
        """
        import onnxruntime

        self.model_path = Path(model_path) if model_path else bundled_model()
        self.box_threshold, self.short_side, self.long_side = box_threshold, short_side, float("inf")
        self.settings = {"detector": self.model_path.name, "box_threshold": box_threshold, "version": VERSION}
        self.look = look
        if look != "whole":  # which files made before there was a choice do not name
            self.settings["look"] = look
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_mem_pattern = False  # a plan of memory for each size of frame, of which there are many
        self.session = onnxruntime.InferenceSession(str(self.model_path), options, providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of a uint8 RGB frame (H, W, 3): float32 (N, 4, 2), corners (x, y) in pixels of the frame, which may lie
        beyond its edge, and their scores (N,), 0–1."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"frame must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        polygons, scores, kept = self._found(frame, None)
        return polygons[kept], scores[kept]

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        """The boxes alone."""
        return self(frame)[0]

    def boxes_and_doubtful(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The boxes, and those that may be words in large letters or what only looks like them: too high for a line of text, or not found
        again in a smaller frame. One frame cannot tell; words laid over a moving picture are told by what they do in others.
        """
        look = self._network(resized(frame, LOOK_SIDE))
        polygons, _, kept = self._found(frame, look)
        blobs = blobs_of(look) * scale_to(frame, look)
        return polygons[kept], np.concatenate([polygons[~kept], blobs])

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        """Lines of text that a small look shows, at a twentieth of the cost: level and long, not exact, (N, 4, 2)."""
        found = self.boxes_at(frame, GLIMPSE_SIDE, GLIMPSE_THRESHOLD)
        return np.array([line for line in found if _is_level_line(line)], np.float32).reshape(-1, 4, 2)

    def _found(self, frame: np.ndarray, look: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, their scores, and which of them are no large ones, or are found again in a smaller frame, bool (N,)."""
        probability = self._probability(frame, self.short_side, look)
        polygons, scores = boxes_of(probability, self.box_threshold)
        polygons *= scale_to(frame, probability)
        limit = LARGE * min(frame.shape[:2])
        kept = np.array([min(cv2.minAreaRect(polygon)[1]) <= limit for polygon in polygons], bool)
        if not kept.all():
            again = union_all(hulls_of(self.boxes_at(frame, SMALL_SIDE)))
            kept |= [again.intersection(hull).area > FOUND_AGAIN * hull.area for hull in hulls_of(polygons)]
        return polygons, scores, kept

    def boxes_at(self, frame: np.ndarray, short_side: int, box_threshold: float | None = None) -> np.ndarray:
        """The boxes that the network gives when it sees the whole frame at `short_side` pixels."""
        probability = self._network(resized(frame, short_side))
        return boxes_of(probability, box_threshold or self.box_threshold)[0] * scale_to(frame, probability)

    def _probability(self, frame: np.ndarray, short_side: int, seen_at_first: np.ndarray | None = None) -> np.ndarray:
        """The network's map of the frame at `short_side` pixels, float32 (h, w), 0–1; 0 where a first look showed nothing, or, where that
        was had already, the map that it gave.
        """
        image = resized(frame, short_side)
        if self.look == "whole" or short_side < 2 * LOOK_SIDE:
            return self._network(image)
        height, width = image.shape[:2]
        probability = np.zeros((height, width), np.float32)
        look = resized(frame, LOOK_SIDE)
        edges = np.ptp(in_cells(look), (1, 3)).max(-1) > CONTRAST
        if not edges.any():
            return probability
        seen_at_first = self._network(look) if seen_at_first is None else seen_at_first
        parts = parts_to_see((in_cells(seen_at_first).max((1, 3)) > LOOK_THRESHOLD) & edges)
        for left, top, right, bottom in parts:
            x, y = (int(edge * side) // 32 * 32 for edge, side in ((left, width), (top, height)))
            x_end, y_end = (-int(-edge * side // 32) * 32 for edge, side in ((right, width), (bottom, height)))
            seen = probability[y:y_end, x:x_end]
            np.maximum(seen, self._network(image[y:y_end, x:x_end]), out=seen)  # parts touch after rounding
        return probability

    def _network(self, image: np.ndarray) -> np.ndarray:
        """Probability of text kernels, float32 (h, w), of a uint8 RGB image (h, w, 3) whose sides are multiples of 32."""
        network_input = image[..., ::-1].astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1  # BGR, -1 to 1
        return self.session.run(None, {self.input_name: network_input})[0][0, 0]


def resized(frame: np.ndarray, short_side: int) -> np.ndarray:
    """The frame with about `short_side` pixels, its sides multiples of 32, the network's strides."""
    height, width = frame.shape[:2]
    scale = min(short_side / min(height, width), LONGEST_SIDE / max(height, width))
    size = max(32, round(width * scale / 32) * 32), max(32, round(height * scale / 32) * 32)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def scale_to(frame: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """What turns (x, y) in a map of the frame into pixels of the frame."""
    (height, width), (rows, columns) = frame.shape[:2], probability.shape
    return np.array([width / columns, height / rows], np.float32)


def in_cells(image: np.ndarray) -> np.ndarray:
    """(h, w, …) as (h / CELL, CELL, w / CELL, CELL, …)."""
    height, width = image.shape[:2]
    return image.reshape(height // CELL, CELL, width // CELL, CELL, *image.shape[2:])


def parts_to_see(cells: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Rectangles (left, top, right, bottom), shares of the frame's sides, around the cells that may hold text.

    cells: bool (h, w). Rectangles do not overlap; where they would cover most of the frame, there is one, the whole.
    """
    height, width = cells.shape
    covered = cv2.dilate(cells.astype(np.uint8), np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8))
    while True:  # rectangles that touch become one, which may touch others
        found = cv2.connectedComponentsWithStats(covered)[2][1:]
        before = covered.copy()
        for x, y, w, h, _ in found:
            covered[y : y + h, x : x + w] = 1
        if (covered == before).all():
            break
    if covered.mean() > WHOLE:
        return [(0, 0, 1, 1)]
    return [(x / width, y / height, (x + w) / width, (y + h) / height) for x, y, w, h, _ in found]


def bundled_model() -> Path:
    """The detector inside the installed rapidocr package, found without importing it (2 s).

    Raises: `UsageError` where it is missing, or another.
    """
    return from_package(
        "rapidocr",
        "models/*_det_*.onnx",
        "rapidocr==3.10.0",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    )


def boxes_of(probability: np.ndarray, box_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """DBNet's boxes, float32 (N, 4, 2), and scores (N,) from its map of text kernels, float (h, w), 0–1."""
    short_side = min(probability.shape)
    kernels = cv2.dilate((probability > PIXEL_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    polygons, scores = [], []
    for contour in cv2.findContours(kernels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        centre, (a, b), angle = cv2.minAreaRect(contour)
        if min(a, b) < 2:
            continue
        x, y, w, h = cv2.boundingRect(contour)
        inside = np.zeros((h, w), np.uint8)
        cv2.drawContours(inside, [contour], 0, 1, cv2.FILLED, offset=(-x, -y))
        score = cv2.mean(probability[y : y + h, x : x + w], inside)[0]
        growth = a * b / (a + b) * UNCLIP_RATIO
        low, high = sorted((a + growth, b + growth))
        blob = low > TALLEST * short_side or (low > TALL * short_side and high < 2 * low)
        if score >= box_threshold and not blob:
            polygons.append(cv2.boxPoints((centre, (a + growth, b + growth), angle)) + 0.5)  # pixel centres to edges
            scores.append(score)
    return np.array(polygons, np.float32).reshape(-1, 4, 2), np.array(scores, np.float32)


def _is_level_line(corners: np.ndarray) -> bool:
    _, sides, angle = cv2.minAreaRect(corners)
    return max(sides) >= 2 * min(sides) and min(angle % 90, 90 - angle % 90) <= 4


def blobs_of(probability: np.ndarray) -> np.ndarray:
    """What may be words that `boxes_of` leaves out for their height, level rectangles, float32 (N, 4, 2)."""
    kernels = (probability > PIXEL_THRESHOLD).astype(np.uint8)
    found = []
    for contour in cv2.findContours(kernels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        x, y, w, h = cv2.boundingRect(contour)
        if h < TALL * min(probability.shape):
            continue
        inside = np.zeros((h, w), np.uint8)
        cv2.drawContours(inside, [contour], 0, 1, cv2.FILLED, offset=(-x, -y))
        if cv2.mean(probability[y : y + h, x : x + w], inside)[0] >= BLOB_THRESHOLD:
            out = BLOB_GROWTH * h
            left, top, right, bottom = x - out, y - out, x + w + out, y + h + out
            found.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    return np.array(found, np.float32).reshape(-1, 4, 2)
