"""Bytes that sampled frames fetch of a remote video, beside its size: mp4 with its index at either end, mkv, webm, fragmented mp4.

    python -m benchmarks.remote_reading VIDEO
    python -m benchmarks.remote_reading VIDEO --minutes 60

The storage is moto's S3 server on this machine, in this process; the requests are real.
"""

import argparse
import logging
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.cases import FFMPEG
from benchmarks.measure import table

CONTAINERS = {
    "mp4, moov at the end": ("end.mp4", []),
    "mp4, moov in front": ("front.mp4", ["-movflags", "faststart"]),
    "mkv, cues at the end": ("end.mkv", []),
    "mkv, cues in front": ("front.mkv", ["-cues_to_front", "1"]),
    "webm": ("a.webm", []),
    "mp4, fragmented": ("fragmented.mp4", ["-movflags", "frag_keyframe+empty_moov"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "video", type=Path, help="the video to repeat, with codecs that mp4 and mkv can hold; for webm VP9 or AV1"
    )
    parser.add_argument("--minutes", type=float, default=10, help="its length (default: 10)")
    args = parser.parse_args()

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"

    from utils.storage import RemoteFile, filesystem
    from utils.video.sampling import FrameSampling

    fs = filesystem("s3://videos")
    fs.mkdir("s3://videos")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title, (name, flags) in CONTAINERS.items():
            source = ["-stream_loop", "-1", "-i", str(args.video), "-t", str(60 * args.minutes), "-c", "copy"]
            wrote = subprocess.run([*FFMPEG, *source, *flags, f"{folder}/{name}"], capture_output=True, text=True)
            if wrote.returncode:  # webm holds VP8, VP9 and AV1 alone
                rows.append([title, "cannot hold this codec", "", "", ""])
                continue
            size = os.path.getsize(f"{folder}/{name}")
            fs.put_file(f"{folder}/{name}", f"s3://videos/{name}")
            RemoteFile.fetched_bytes = RemoteFile.requests = 0
            FrameSampling("uniform", 4).frames(f"s3://videos/{name}")
            fetched = RemoteFile.fetched_bytes
            rows.append([title, f"{size:,}", f"{fetched:,}", f"{fetched / size:.1%}", str(RemoteFile.requests)])
    print(table(["container", "bytes", "fetched for 4 frames", "share", "requests"], rows))
    server.stop()


if __name__ == "__main__":
    main()
