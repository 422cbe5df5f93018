"""Remote storage, against moto's S3 server on this machine and a proxy in front of it that injects faults."""

import http.client
import http.server
import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import write_numbered

import make_report
from utils import storage, working_copies
from utils.errors import UsageError, VideoError
from utils.pipeline.result_file import ResultFile
from utils.pipeline.row_list import Rows
from utils.report.funnel import funnel
from utils.rows import read_rows, write_rows
from utils.video.opening import open_video
from utils.video.sampling import FrameSampling
from utils.video_utils import content_digest, file_size, get_video_path_list, locate, relative_to_folder


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on to `target`; `faults`: what happens to the next ones: an HTTP status, or "cut"."""

    target: tuple[str, int]
    faults: list
    requests: list[str]
    protocol_version = "HTTP/1.1"

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.requests.append(f"{self.command} {self.path}")
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            text = (
                b"<Error><Code>InvalidAccessKeyId</Code></Error>"
                if fault == 403
                else b"<Error><Code>SlowDown</Code></Error>"
            )
            self.send_response(fault)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)
            return
        connection = http.client.HTTPConnection(*self.target)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def proxy():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    handler = type("Handler", (Proxy,), {"target": moto.get_host_and_port(), "faults": [], "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    moto.stop()


@pytest.fixture
def bucket(proxy, tmp_path, monkeypatch, request):
    """The URL of an empty folder on the server."""
    keys = {
        "AWS_ACCESS_KEY_ID": "KEYKEYKEY",
        "AWS_SECRET_ACCESS_KEY": "SECRETSECRET",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in {**keys, "AWS_ENDPOINT_URL": proxy.address, "REELSET_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.02, 0.04, 0.08))
    monkeypatch.setattr(storage, "_last", None)
    proxy.faults.clear()
    proxy.requests.clear()
    fs = storage.filesystem("s3://films")
    if not fs.exists("s3://films"):
        fs.mkdir("s3://films")
    return f"s3://films/{abs(hash(request.node.name))}"


def put(url: str, content: bytes | Path) -> None:
    data = content.read_bytes() if isinstance(content, Path) else content
    storage.filesystem(url).pipe_file(url, data)


def content(url: str) -> bytes:
    return storage.filesystem(url).cat_file(url)


@pytest.mark.parametrize("name, options", [("a.mp4", {}), ("b.mp4", {"options": {"movflags": "faststart"}}), ("c.mkv", {}), ("d.avi", {"codec": "mpeg4"})])  # fmt: skip
@pytest.mark.parametrize("small", [0, 1 << 22])
def test_the_frames_are_those_of_the_file(bucket, tmp_path, monkeypatch, name, options, small):
    monkeypatch.setattr(storage, "SMALL", small)
    path = write_numbered(tmp_path / name, 100, keyframes=(30, 60), **options)
    put(f"{bucket}/{name}", path)
    here, there = (FrameSampling("uniform", 4).frames(str(place)) for place in (path, f"{bucket}/{name}"))
    assert here[:2] == there[:2]
    assert all((one.to_ndarray() == other.to_ndarray()).all() for one, other in zip(here[2], there[2], strict=True))
    assert content_digest(str(path)) == content_digest(f"{bucket}/{name}")


def test_a_folder_is_listed_in_natural_order(bucket):
    for name in ("clip10.mp4", "clip2.mp4", "sub/a.MKV", ".hidden/b.mp4", "notes.txt"):
        put(f"{bucket}/{name}", b"x")
    assert get_video_path_list(bucket) == ["clip2.mp4", "clip10.mp4", "sub/a.MKV"]
    assert get_video_path_list(f"{bucket}/clip2.mp4") == ["clip2.mp4"]
    assert locate("clip2.mp4", f"{bucket}/clip2.mp4") == f"{bucket}/clip2.mp4"
    assert relative_to_folder(f"{bucket}/sub/a.MKV", bucket) == "sub/a.MKV"
    assert relative_to_folder("s3://other/a.mp4", bucket) == "s3://other/a.mp4" == locate("s3://other/a.mp4", bucket)
    with pytest.raises(UsageError, match="no such folder"):
        get_video_path_list(f"{bucket}/nothing")


def test_the_size_of_a_video_is_asked_for_without_fetching_it(bucket, proxy):
    put(f"{bucket}/a.mp4", b"12345")
    proxy.requests.clear()
    assert file_size(f"{bucket}/a.mp4") == 5
    assert not [line for line in proxy.requests if line.startswith("GET") and "a.mp4" in line]
    with pytest.raises(VideoError, match="no such object"):
        file_size(f"{bucket}/missing.mp4")


@pytest.mark.parametrize("text", [
    "#EXTM3U\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{other}'\n",
    "<?xml version='1.0'?><MPD><Period><AdaptationSet><Representation><BaseURL>{other}</BaseURL></Representation></AdaptationSet></Period></MPD>",
])  # fmt: skip
def test_a_playlist_opens_nothing(bucket, proxy, tmp_path, text):
    local = write_numbered(tmp_path / "local.mp4", 10)
    put(f"{bucket}/other.mp4", local)
    for other in (str(local), f"file:{local}", f"{proxy.address}/films/other.mp4", f"{bucket}/other.mp4", "other.mp4"):
        put(f"{bucket}/list.mp4", text.format(other=other).encode())
        proxy.requests.clear()
        with pytest.raises(VideoError, match=r"cannot be read|is refused"), open_video(f"{bucket}/list.mp4"):
            pass
        assert not [line for line in proxy.requests if "other.mp4" in line]


@pytest.mark.parametrize("faults", [[503], [503, 500, 503], ["cut"], [None, "cut", 503]])
def test_a_fault_that_passes_is_not_noticed(bucket, proxy, tmp_path, faults):
    path = write_numbered(tmp_path / "a.mp4", 30)
    put(f"{bucket}/a.mp4", path)
    proxy.faults += faults
    assert FrameSampling("uniform", 4).frames(f"{bucket}/a.mp4")[0] == [0, 7, 15, 22]
    assert not proxy.faults


def test_a_fault_that_stays_is_a_sentence(bucket, proxy, tmp_path):
    put(f"{bucket}/a.mp4", write_numbered(tmp_path / "a.mp4", 30))
    proxy.faults += [503] * 100
    with pytest.raises(VideoError, match="5 attempts failed"):
        FrameSampling("uniform", 4).frames(f"{bucket}/a.mp4")
    proxy.faults[:] = [403] * 100
    with pytest.raises(VideoError, match="access denied") as stopped:
        FrameSampling("uniform", 4).frames(f"{bucket}/a.mp4")
    assert "KEYKEYKEY" not in str(stopped.value) and "SECRET" not in str(stopped.value)
    proxy.faults.clear()
    with pytest.raises(VideoError, match="no such object"):
        FrameSampling("uniform", 4).frames(f"{bucket}/missing.mp4")
    with pytest.raises(UsageError, match="no such folder"):
        get_video_path_list("s3://no-such-bucket/a")


@pytest.mark.parametrize("url", ["s3://KEY:PASS@films/a", "s3://films/a?X-Amz-Signature=PASS", "s3://films/a?aws_secret_access_key=PASS"])  # fmt: skip
def test_a_url_with_a_secret_is_refused_and_not_shown(url):
    for refuse in (storage.filesystem, working_copies.local_path, lambda url: relative_to_folder(url, None)):
        with pytest.raises(UsageError) as stopped:
            refuse(url)
        assert "PASS" not in str(stopped.value) and "KEY" not in str(stopped.value)


def result_file(url: str, **options) -> ResultFile:
    return ResultFile(url, {"model": "m"}, saved_freq=1, **options)


def test_rows_written_before_a_kill_are_there_afterwards(bucket):
    url = f"{bucket}/scores.jsonl"
    first = result_file(url)
    first.add([{"video_path": "a"}])  # flushed, not yet uploaded; no close: the run is killed
    first.rows.file.close()
    first._lock.close()
    assert not storage.exists(url)
    second = result_file(url)
    rows = Rows.of([{"video_path": "b"}, {"video_path": "a"}]).scan()
    assert second.resume(rows, np.zeros(2, bool)).finished.tolist() == [False, True]
    assert content(url) == b'{"video_path": "a"}\n'
    second.add([{"video_path": "b"}])
    second.finish_writing()
    second.merge(rows)
    second.close()
    assert [row["video_path"] for row in read_rows(url)] == ["b", "a"]
    assert working_copies.shown(second.path) == url


def test_the_remote_file_is_the_truth(bucket, monkeypatch, tmp_path):
    url = f"{bucket}/scores.jsonl"
    write_rows(url, [{"video_path": "a"}])
    put(url, b'{"video_path": "other"}\n')  # by another machine
    assert [row["video_path"] for row in read_rows(url)] == ["other"]
    storage.filesystem(url).rm_file(url)
    with pytest.raises(UsageError, match="no such file"):
        read_rows(url)


def test_a_run_that_is_overtaken_by_another_machine_stops(bucket):
    url = f"{bucket}/scores.jsonl"
    results = result_file(url)
    results.add([{"video_path": "a"}])
    put(url, b'{"video_path": "other"}\n')
    with pytest.raises(OSError, match="another run"):
        results.close()


def test_parts_of_ranks_on_other_machines_are_merged(bucket):
    url = f"{bucket}/scores.jsonl"
    result_file(url).close()
    put(f"{bucket}/scores.part-1.jsonl", b'{"video_path": "b"}\n')
    results = result_file(url)
    assert results.resume(Rows.of([{"video_path": "b"}]).scan(), np.zeros(1, bool)).finished.all()
    assert content(url) == b'{"video_path": "b"}\n' and not storage.exists(f"{bucket}/scores.part-1.jsonl")


def test_a_missing_bucket_ends_the_run_with_a_sentence(bucket, run_script, tmp_path):
    (tmp_path / "in").mkdir()
    write_numbered(tmp_path / "in" / "a.mp4", 30)
    flags = ["--video_folder", "in", "--saved_path", "s3://no-such-bucket/scores.jsonl"]
    ran = run_script("compute_video_frame_quality.py", *flags, "--metrics", "TechnicalScore", code=2)
    assert "s3://no-such-bucket" in ran.stderr and "no such bucket" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.slow
def test_cutting_scoring_and_filtering_from_s3_to_s3(bucket, run_script, tmp_path):
    put(f"{bucket}/in/sub/a.mp4", write_numbered(tmp_path / "a.mp4", 100))
    run_script(
        "cutscene_detect.py",
        "--video_folder",
        f"{bucket}/in",
        "--saved_path",
        f"{bucket}/scenes.jsonl",
        "--n_jobs",
        1,
        "--detector",
        "adaptive",
        "--cutscene_threshold",
        1e6,
    )
    cut = ("video_splitting.py", "--video_folder", f"{bucket}/in", "--video_metadata_path", f"{bucket}/scenes.jsonl",
           "--output_folder", f"{bucket}/train", "--saved_path", f"{bucket}/clips.jsonl", "--n_jobs", 1)  # fmt: skip
    run_script(*cut)
    clips = read_rows(f"{bucket}/clips.jsonl")
    assert [row["video_path"] for row in clips] == get_video_path_list(f"{bucket}/train") and clips
    assert not list((tmp_path / "cache").rglob("*.mp4"))  # only the storage has them
    working_copies.remove(f"{bucket}/train/{clips[0]['video_path']}")
    assert "1 results no longer match" in run_script(*cut).stdout
    assert get_video_path_list(f"{bucket}/train") == [row["video_path"] for row in clips]
    for file in (tmp_path / "cache").rglob("*.json*"):
        assert b"SECRET" not in file.read_bytes()
    settings = json.loads(content(f"{bucket}/clips.settings.json"))
    assert "SECRET" not in json.dumps(settings) and "KEYKEY" not in json.dumps(settings)


def test_a_report_and_a_summary_from_another_machine_have_all_scores(bucket, tmp_path, monkeypatch, run_main):
    """The scores are listed behind the URL: on a machine that made none of them there is no working copy of any."""
    clips = [{"video_path": f"{i}.mp4", "duration": 4.0} for i in range(3)]
    files = {"clips": clips, "x_score": [row | {"x_score": 0.5 + i} for i, row in enumerate(clips)], "train": clips[:2]}
    for name, rows in files.items():
        put(f"{bucket}/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        put(f"{bucket}/{name}.settings.json", b"{}")
    monkeypatch.setenv("REELSET_CACHE", str(tmp_path / "another machine"))
    steps = {step.name: step.count for step in funnel(bucket)}
    assert steps == {"clips": 3, "x_score.jsonl": 3, "kept": 2}
    run_main(make_report, bucket, "--no_thumbnails", "--saved_path", tmp_path / "page.html")
    assert '"name": "x_score", "file": "x_score.jsonl"' in (tmp_path / "page.html").read_text()
    assert f'"DATASET_FOLDER": "{bucket}"' in (tmp_path / "page.html").read_text()


def test_cropped_clips_are_written_beside_the_clips(bucket, run_script, tmp_path):
    put(f"{bucket}/train/sub/a.mp4", write_numbered(tmp_path / "a.mp4", 30))
    row = {"video_path": "sub/a.mp4", "crop_box": [0, 0, 96, 108], "crop_share": 0.9, "summary_caption": "a"}
    write_rows(tmp_path / "train.jsonl", [row])
    crop = ("crop_clips.py", "--video_folder", f"{bucket}/train", "--video_metadata_path", "train.jsonl",
            "--saved_path", f"{bucket}/cropped.jsonl", "--n_jobs", 1)  # fmt: skip
    run_script(*crop)
    assert [file["media_path"] for file in read_rows(f"{bucket}/cropped.jsonl")] == ["sub/a.cropped.mp4"]
    with open_video(f"{bucket}/train/sub/a.cropped.mp4") as (_, stream):
        assert (stream.width, stream.height) == (96, 108)
    assert get_video_path_list(f"{bucket}/train") == ["sub/a.mp4"]
    assert ", 0 due" in run_script(*crop).stdout
    working_copies.remove(f"{bucket}/train/sub/a.cropped.mp4")
    assert "1 results no longer match" in run_script(*crop).stdout
    listed = ("--video_folder", f"{bucket}/train", "--video_metadata_path", "train.jsonl", "--saved_path", "set.json")
    run_script("export_dataset.py", *listed, "--columns_from", f"{bucket}/cropped.jsonl")
    assert json.loads((tmp_path / "set.json").read_text())[0]["file_path"] == "sub/a.cropped.mp4"
