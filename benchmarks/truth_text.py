"""Errors of the text area: text of known area drawn over photographs, frames without text, and the cost.

    python -m benchmarks.truth_text --video_folder VIDEOS

Chinese text needs a font: Debian's fonts-wqy-microhei or fonts-noto-cjk, or --chinese_font; without one it is left out, with a message.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from benchmarks.measure import table
from benchmarks.truth_technical import frames_of
from utils.scoring.rapidocr_detector import RapidTextDetector
from utils.scoring.text_area import text_area_share

LINES = (
    "SUBSCRIBE NOW",
    "The quick brown fox jumps",
    "Chapter 12: a new hope",
    "www.example.com/video",
    "Breaking news at nine",
)

CHINESE = ("立即订阅", "今天的天气真好", "第十二章：新的希望", "欢迎收看晚间新闻", "请勿在车厢内吸烟")
CHINESE_FONTS = ("wqy-microhei.ttc", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc")


def chinese_font() -> Path | None:
    """A font with Chinese characters, where Debian's packages put it."""
    fonts = {path.name: path for path in Path("/usr/share/fonts").rglob("*.ttc")}
    return next((fonts[name] for name in CHINESE_FONTS if name in fonts), None)


def backgrounds(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Photographs that fill `size` (width, height), RGB."""
    filled = {}
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        photo = getattr(data, name)()
        scale = max(size[0] / photo.shape[1], size[1] / photo.shape[0])
        filled[name] = cv2.resize(photo, None, fx=scale + 0.01, fy=scale + 0.01)[: size[1], : size[0]].copy()
    return filled


def draw_line(
    frame: np.ndarray, text: str, height: int, angle: float, centre: tuple[float, float], light: bool, font: str
) -> np.ndarray:
    """Draw a line of text and return the corners (4, 2) of its ink's rectangle. height: of the font, pixels."""
    if font == "opencv":
        scale, thick = height / 30, max(1, height // 14)
        (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        ink = np.zeros((h + base + 8, w + 8), np.uint8)
        cv2.putText(ink, text, (4, h + 4), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    else:
        face = ImageFont.load_default(size=height) if font == "pil" else ImageFont.truetype(font, height)
        _, _, right, bottom = face.getbbox(text)
        picture = Image.new("L", (int(right + 4), int(bottom + 4)))
        ImageDraw.Draw(picture).text((0, 0), text, fill=255, font=face)
        ink = np.asarray(picture)
    x, y, w, h = cv2.boundingRect((ink > 100).astype(np.uint8))
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), angle, 1)
    matrix[:, 2] += np.array(centre) - (x + w / 2, y + h / 2)
    alpha = cv2.warpAffine(ink, matrix, frame.shape[1::-1])[..., None] / 255
    frame[:] = (frame * (1 - alpha) + (245 if light else 12) * alpha).astype(np.uint8)
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], float)
    return corners @ matrix[:, :2].T + matrix[:, 2]


def cases(size: tuple[int, int], chinese: Path | None = None) -> Iterator[tuple[dict, np.ndarray, float]]:
    """Labels, frame and true share; Latin text, or Chinese in the font given."""
    rng = np.random.default_rng(0)
    lines = CHINESE if chinese else LINES
    for name, photo in backgrounds(size).items():
        for percent in (2.5, 4, 8):
            for angle in (0, 15, 30, 45, 60, 90):
                light, font = bool(rng.integers(2)), ("pil", "opencv")[rng.integers(2)]
                font = str(chinese) if chinese else font
                frame, text = photo.copy(), lines[rng.integers(len(lines))]
                height = round(percent / 100 * size[1])
                truth = [draw_line(frame, text, height, angle, (size[0] * 0.5, size[1] * 0.5), light, font)]
                side = size[0] * 0.22
                if angle in (0, 90) and percent < 8:
                    spot = (size[0] * 0.5, size[1] * 0.2) if angle == 0 else (side, size[1] * 0.5)
                    truth.append(draw_line(frame, lines[0], height, angle, spot, light, font))
                share = text_area_share(truth, size)
                labels = {
                    "size": f"{size[0]}x{size[1]}",
                    "photo": name,
                    "height %": percent,
                    "angle": angle,
                    "ink": "light" if light else "dark",
                    "font": Path(font).stem,
                }
                yield labels, frame, share


def error_table(rows: list[tuple[dict, float, float]], title: str) -> str:
    """Detected over true area: of all rows (labels, true share, detected share) and by label."""
    groups = [("all", None)] + [
        (f"{key} {value}", (key, value)) for key in rows[0][0] for value in dict.fromkeys(r[0][key] for r in rows)
    ]
    lines = []
    for group, want in groups:
        chosen = [(truth, read) for labels, truth, read in rows if want is None or labels[want[0]] == want[1]]
        ratio = np.array([read / truth for truth, read in chosen])
        spread = "–".join(f"{p:.2f}" for p in np.percentile(ratio, (5, 95)))
        area = np.mean([truth for truth, _ in chosen])
        under_half = int((ratio < 0.5).sum())
        lines.append([group, str(len(chosen)), f"{area:.4f}", f"{np.median(ratio):.2f}", spread, str(under_half)])
    return table([title, "frames", "true area, mean", "detected / true, median", "5 %–95 %", "under half"], lines)


def without_text() -> dict[str, np.ndarray]:
    """Photographs and patterns that a detector may mistake for text, 1280 x 720 or the photograph's size, RGB."""
    frames = backgrounds((1280, 720))
    for name in ("brick", "grass", "gravel", "coins"):
        frames[name] = cv2.cvtColor(getattr(data, name)(), cv2.COLOR_GRAY2RGB)
    x, y = np.meshgrid(np.arange(1280), np.arange(720))
    plaid = 90 + 60 * (x // 24 % 3 == 0) + 50 * (y // 24 % 3 == 0)
    frames["plaid"] = np.stack([plaid, plaid, np.full_like(plaid, 60)], 2).astype(np.uint8)
    frames["fence"] = np.where((x % 40 < 12)[..., None], np.uint8([200, 190, 180]), frames["coffee"])
    frames["stripes"] = np.repeat(((y // 9 % 2) * 200 + 20).astype(np.uint8)[..., None], 3, 2)
    frames["chessboard"] = np.repeat((((x // 40 + y // 40) % 2) * 220).astype(np.uint8)[..., None], 3, 2)
    frames["noise"] = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--video_folder", type=Path)
    parser.add_argument("--short_side", type=int, default=736)
    parser.add_argument("--box_threshold", type=float, default=0.6)
    parser.add_argument(
        "--chinese_font", type=Path, default=chinese_font(), help="a .ttc or .ttf with Chinese characters"
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detector = RapidTextDetector(short_side=args.short_side, box_threshold=args.box_threshold)

    def share_of(frame: np.ndarray) -> float:
        return text_area_share(detector(frame)[0], (frame.shape[1], frame.shape[0]))

    if not args.chinese_font:
        print("left out: Chinese text (install fonts-wqy-microhei or fonts-noto-cjk, or give --chinese_font)\n")
    for chinese in (None, args.chinese_font)[: 1 + bool(args.chinese_font)]:
        rows = [
            (labels, truth, share_of(frame))
            for size in ((640, 360), (1920, 1080))
            for labels, frame, truth in cases(size, chinese)
        ]
        print(error_table(rows, "Chinese text" if chinese else "Latin text") + "\n")
    shares = [[name, f"{share_of(frame):.4f}"] for name, frame in without_text().items()]
    print(table(["without text", "detected share"], shares) + "\n")
    if args.video_folder:
        lines = []
        for name, frame in frames_of(args.video_folder, every_seconds=6, most=4):
            polygons, scores = detector(frame)
            share = text_area_share(polygons, (frame.shape[1], frame.shape[0]))
            lines.append([name, f"{share:.4f}", " ".join(f"{score:.2f}" for score in np.sort(scores)[:12])])
        print(table(["clip", "detected share", "box scores"], lines) + "\n")
    lines = []
    for size in ((640, 360), (1920, 1080)):
        frame = backgrounds(size)["coffee"]
        started = time.process_time()
        for _ in range(3):
            detector(frame)
        lines.append([f"{size[0]}x{size[1]}", f"{(time.process_time() - started) / 3:.2f}"])
    print(table(["size", "CPU s a frame, one thread"], lines))


if __name__ == "__main__":
    main()
