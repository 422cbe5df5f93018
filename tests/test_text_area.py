"""The area of boxes, exactly, and of text of known area drawn over photographs, closely."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from utils.scoring.rapidocr_detector import SHORT_SIDE, RapidTextDetector, boxes_of, bundled_model, parts_to_see
from utils.scoring.text_area import text_area_share

SIZE = (1280, 720)
CHINESE_FONTS = ("wqy-microhei.ttc", "wqy-zenhei.ttc", "NotoSansCJK-Regular.ttc")


def rectangle(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def test_area_of_one_box():
    assert text_area_share([rectangle(0, 0, 640, 360)], SIZE) == pytest.approx(0.25)
    assert text_area_share(np.zeros((0, 4, 2)), SIZE) == 0


def test_overlaps_count_once():
    boxes = [rectangle(0, 0, 640, 360), rectangle(320, 0, 960, 360), rectangle(0, 0, 640, 360)]
    assert text_area_share(boxes, SIZE) == pytest.approx(0.375)


def test_boxes_are_clipped_to_the_frame():
    assert text_area_share([rectangle(-640, -360, 640, 360)], SIZE) == pytest.approx(0.25)
    assert text_area_share([rectangle(2000, 0, 3000, 100)], SIZE) == 0


@pytest.mark.parametrize("angle", [15, 30, 45, 60, 90])
def test_rotation_keeps_the_area(angle):
    corners = cv2.boxPoints(((640, 360), (300, 40), angle))
    assert text_area_share([corners], SIZE) == pytest.approx(300 * 40 / (1280 * 720), rel=1e-4)


def test_order_of_the_corners_does_not_matter():
    corners = rectangle(10, 10, 110, 60)[[0, 2, 1, 3]]
    assert text_area_share([corners], SIZE) == pytest.approx(100 * 50 / (1280 * 720))


def test_boxes_without_area_are_harmless():
    assert text_area_share([rectangle(5, 5, 5, 50), np.full((4, 2), 7.0)], SIZE) == 0


def test_empty_frame_is_refused():
    with pytest.raises(ValueError, match="frame_size"):
        text_area_share([], (0, 720))


def test_boxes_grow_from_kernels_and_weak_ones_go():
    probability = np.zeros((736, 1312), np.float32)
    probability[100:120, 200:400] = 0.9
    probability[300:320, 200:400] = 0.45
    polygons, scores = boxes_of(probability, 0.6)
    assert len(polygons) == 1 and scores[0] > 0.8
    left, top, right, bottom = *polygons[0].min(0), *polygons[0].max(0)
    assert 180 < left < 200 and 400 < right < 420 and 80 < top < 100 and 120 < bottom < 140


def test_parts_hold_the_cells_that_may_be_text_and_their_surroundings():
    cells = np.zeros((40, 72), bool)
    assert parts_to_see(cells) == []
    cells[20, 36] = True  # and two more on each side
    assert parts_to_see(cells) == [pytest.approx((34 / 72, 18 / 40, 39 / 72, 23 / 40))]
    cells[25, 40] = True  # the two rectangles touch and are one
    assert parts_to_see(cells) == [pytest.approx((34 / 72, 18 / 40, 43 / 72, 28 / 40))]
    cells[2, 2] = True
    assert len(parts_to_see(cells)) == 2


def test_frame_with_text_all_over_is_one_part():
    assert parts_to_see(np.ones((40, 72), bool)) == [(0, 0, 1, 1)]


@pytest.fixture(scope="module")
def detector():
    return RapidTextDetector()


def photograph(name, size=SIZE):
    photo = getattr(data, name)()
    scale = max(size[0] / photo.shape[1], size[1] / photo.shape[0]) + 0.01
    return cv2.resize(photo, None, fx=scale, fy=scale)[: size[1], : size[0]].copy()


def with_text(frame, text, height, angle, light, face=None):
    """The frame with a line of text across its middle, and the corners (4, 2) of the ink's rectangle."""
    font = ImageFont.truetype(str(face), height) if face else ImageFont.load_default(size=height)
    canvas = Image.new("L", tuple(int(side) + 4 for side in font.getbbox(text)[2:]))
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=font)
    ink = np.asarray(canvas)
    x, y, w, h = cv2.boundingRect((ink > 100).astype(np.uint8))
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), angle, 1)
    matrix[:, 2] += np.array(frame.shape[1::-1]) / 2 - (x + w / 2, y + h / 2)
    alpha = cv2.warpAffine(ink, matrix, frame.shape[1::-1])[..., None] / 255
    corners = rectangle(x, y, x + w, y + h) @ matrix[:, :2].T + matrix[:, 2]
    return (frame * (1 - alpha) + (245 if light else 10) * alpha).astype(np.uint8), corners


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080)])
@pytest.mark.parametrize(
    "name, percent, angle, light",
    [("coffee", 5, 0, True), ("chelsea", 8, 0, False), ("coffee", 8, 30, True), ("chelsea", 5, 90, False)],
)
def test_text_reads_its_area(detector, size, name, percent, angle, light):
    frame, corners = with_text(photograph(name, size), "Subscribe now for more", size[1] * percent // 100, angle, light)
    read, truth = text_area_share(detector(frame)[0], size), text_area_share([corners], size)
    assert 0.75 * truth < read < 1.6 * truth


@pytest.mark.parametrize("percent, angle, light", [(4, 0, True), (8, 45, True), (6, 90, False)])
def test_chinese_text_reads_its_area(detector, percent, angle, light):
    fonts = [path for path in Path("/usr/share/fonts").rglob("*.ttc") if path.name in CHINESE_FONTS]
    if not fonts:
        pytest.skip("no Chinese font is installed (Debian: fonts-wqy-microhei or fonts-noto-cjk)")
    text, height = "今天的天气真好", SIZE[1] * percent // 100
    frame, corners = with_text(photograph("coffee"), text, height, angle, light, fonts[0])
    read, truth = text_area_share(detector(frame)[0], SIZE), text_area_share([corners], SIZE)
    assert 0.9 * truth < read < 1.7 * truth


@pytest.mark.parametrize("spots", [[(0.1, 0.1)], [(0.02, 0.05), (0.6, 0.95)], [(0.3, y / 10) for y in range(1, 10)]])
def test_parts_of_the_frame_read_as_the_whole_does(detector, spots):
    frame = photograph("coffee")
    for x, y in spots:
        cv2.putText(frame, "Subscribe now", (round(x * 1280), round(y * 720)), 0, 1.2, (255, 255, 255), 3, cv2.LINE_AA)
    whole = detector.boxes_at(frame, SHORT_SIDE)
    polygons, _ = detector(frame)
    assert len(polygons) == len(whole) >= len(spots)
    assert text_area_share(polygons, SIZE) == pytest.approx(text_area_share(whole, SIZE), rel=0.1)


def test_network_sees_no_plain_frame_and_little_of_one_with_a_caption(detector, monkeypatch):
    sizes = []
    network = detector._network
    monkeypatch.setattr(detector, "_network", lambda image: sizes.append(image.size) or network(image))
    frame = np.full((720, 1280, 3), 90, np.uint8)
    assert len(detector(frame)[0]) == 0 and sizes == []
    cv2.putText(frame, "Subscribe now", (400, 650), 0, 1.2, (255, 255, 255), 3, cv2.LINE_AA)
    assert len(detector(frame)[0]) == 1 and sum(sizes) < 0.35 * SHORT_SIDE * 1312 * 3


@pytest.mark.parametrize("text, percent, angle", [("SUBSCRIBE", 20, 0), ("Chapter 12", 14, 20), ("Hello", 16, 0)])
def test_large_letters_are_found_again_at_a_small_size(detector, text, percent, angle):
    frame, corners = with_text(photograph("coffee"), text, SIZE[1] * percent // 100, angle, True)
    assert text_area_share(detector(frame)[0], SIZE) > 0.8 * text_area_share([corners], SIZE)


@pytest.mark.parametrize("text, percent", [("SALE", 30), ("NEW", 45), ("WOW", 55)])
def test_words_too_large_for_a_line_are_doubtful(detector, text, percent):
    frame, corners = with_text(photograph("coffee"), text, SIZE[1] * percent // 100, 0, True)
    _, doubtful = detector.boxes_and_doubtful(frame)
    shares = [text_area_share([box], SIZE) / text_area_share([corners], SIZE) for box in doubtful]
    assert any(0.6 < share < 1.6 for share in shares)


@pytest.mark.parametrize("percent", [5, 8])
def test_a_glimpse_shows_lines(detector, percent):
    plain = photograph("coffee")
    frame, corners = with_text(plain, "Subscribe now for more", SIZE[1] * percent // 100, 0, True)
    assert len(detector.glimpse(plain)) == 0
    lines = detector.glimpse(frame)
    assert len(lines) and all(abs(line.mean(0)[1] - corners.mean(0)[1]) < 30 for line in lines)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "astronaut", "brick", "grass", "gravel", "coins"])
def test_photographs_without_text_stay_under_the_threshold(detector, name):
    photo = getattr(data, name)()
    frame = photograph(name) if photo.ndim == 3 else cv2.cvtColor(photo, cv2.COLOR_GRAY2RGB)
    assert text_area_share(detector(frame)[0], frame.shape[1::-1]) < 0.02


@pytest.mark.parametrize("kind", ["plaid", "fence", "stripes", "noise", "black"])
def test_patterns_without_text_stay_under_the_threshold(detector, kind):
    x, y = np.meshgrid(np.arange(1280), np.arange(720))
    gray = {
        "plaid": 90 + 60 * (x // 24 % 3 == 0) + 50 * (y // 24 % 3 == 0),
        "fence": 60 + 150 * (x % 40 < 12),
        "stripes": 20 + 200 * (y // 9 % 2),
        "noise": np.random.default_rng(0).integers(0, 255, (720, 1280)),
        "black": np.zeros((720, 1280)),
    }[kind]
    frame = np.repeat(gray.astype(np.uint8)[..., None], 3, 2)
    assert text_area_share(detector(frame)[0], SIZE) < 0.02


def test_model_comes_with_the_package():
    assert bundled_model().stat().st_size > 1e6
    with pytest.raises(ValueError, match="uint8"):
        RapidTextDetector()(np.zeros((720, 1280), np.uint8))
