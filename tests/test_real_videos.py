"""Real videos with known truth, where there is a folder `shared` beside the project; skipped elsewhere."""

import json
from pathlib import Path

import pytest

from compute_motion_score import motion_columns
from cutscene_detect import detect_shots
from utils.cutting.clip_writer import decoded_times
from utils.cutting.transition_detector import TransitionDetector
from utils.video.opening import decode, open_video
from utils.video.sampling import sample_frames

SHARED = Path(__file__).parents[2] / "shared"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "videos").is_dir(), reason=f"no real videos at {SHARED / 'videos'}"),
]


@pytest.mark.parametrize("number", [*(pytest.param(n, marks=pytest.mark.release) for n in ("001", "002")), "004"])
def test_farneback_at_native_size_gives_easyanimates_scores(number):
    lines = (SHARED / "reference" / "easyanimate_motion.jsonl").read_text().splitlines()
    published = {row["video_path"]: row["motion_score"] for row in map(json.loads, lines)}
    name = f"panda_scene_{number}.mp4"
    columns = motion_columns({"video_path": name}, str(SHARED / "videos"), "farneback", 0, 2)
    assert round(columns["motion_score"], 5) == published[name]


@pytest.mark.parametrize(
    "name", ["ms_bikes_10s.mp4", "ms_nasa_13013_13s.mp4", "ms_roadtrip_vp9_10bit_3s.webm", "ss_airshow_tilt_fade_11s.mp4",
             "ss_bbb_wakeup_720p_5s.mp4", "ss_dog_lawn_14s.mp4"]
)  # fmt: skip
def test_every_marked_cut_is_found_on_its_frame_and_no_other(name):
    label = json.loads((SHARED / "videos" / "cuts.json").read_text())[name]
    row = detect_shots({"video_path": name}, str(SHARED / "videos"), TransitionDetector)
    times = decoded_times(str(SHARED / "videos" / name))
    seconds = (times - times[0]) * row["duration"] / (times[-1] - times[0] + (times[-1] - times[-2]))
    starts = [sum(float(x) * m for x, m in zip(reversed(a.split(":")), (1, 60, 3600))) for a, _ in row["timecode_list"]]
    found = {int(abs(seconds - start).argmin()) for start in starts[1:]}
    gradual = {f for f in found if any(span["start"] - 3 <= f <= span["end"] + 3 for span in label["gradual"])}
    assert found - gradual == set(label["cuts"])
    assert bool(gradual) == bool(label["gradual"])


SAMPLED = [*sorted((SHARED / "videos").glob("[fs]*_*")), SHARED / "videos" / "ms_roadtrip_vp9_10bit_3s.webm"]


TEN_BIT = "fmt_hevc10_rot90_vfr_editlist_3s"  # takes as long as the others together


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.release if path.stem == TEN_BIT else ()) for path in SAMPLED],
    ids=lambda path: path.stem,
)
def test_sampled_frames_are_those_of_their_index_and_equal_those_of_a_whole_decode(path):
    indices, _, frames = sample_frames(str(path), lambda count: range(3, count, 1 + count // 9))
    with open_video(str(path)) as (container, stream):
        whole = {i: frame for i, frame in enumerate(decode(container, stream)) if i in indices}
    for i, frame in zip(indices, frames, strict=True):
        assert (
            frame.pts == whole[i].pts and (frame.to_ndarray(format="gray") == whole[i].to_ndarray(format="gray")).all()
        )
