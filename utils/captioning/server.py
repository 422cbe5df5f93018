"""A model server on this machine for the length of one run: started on a free port, waited for, stopped whatever
happens.

The server is the child of a watcher process (utils/watcher.py) that reads a pipe from us. However we end, by a kill
too, the pipe ends with us, and the watcher stops the server and all that it has started.
"""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from utils.errors import RunError, UsageError

# How each is started, after its executable: {model} is a folder or hub id, {name} what requests call it.
SERVERS = {
    "vllm": ["vllm", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "{name}"],
    "sglang": [
        "python", "-m", "sglang.launch_server", "--model-path", "{model}", "--host", "127.0.0.1", "--port", "{port}",
        "--served-model-name", "{name}",
    ],
    "lmdeploy": [
        "lmdeploy", "serve", "api_server", "{model}", "--server-name", "127.0.0.1", "--server-port", "{port}", "--model-name", "{name}",
    ],
    "transformers": ["transformers", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"],
}  # fmt: skip


class EngineServer:
    """The server `kind` with `model`, which answers at `url` to requests for `name` once the constructor has returned.

    Raises: `UsageError` when it is not installed; `RunError` when it ends, or is not ready in `wait_seconds`.
    """

    def __init__(self, kind: str, model: str, name: str, log: Path, wait_seconds: float, more: list[str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [part.format(model=model, name=name, port=port) for part in SERVERS[kind]] + more
        command[0] = _executable(command[0], kind)
        for variable in ("no_proxy", "NO_PROXY"):  # a proxy of the user's does not lead to this machine
            os.environ[variable] = ",".join(filter(None, [os.environ.get(variable), "127.0.0.1"]))
        self.kind, self.name, self.log, self.url = kind, name, log, f"http://127.0.0.1:{port}/v1"
        with open(log, "wb") as out:
            self.watcher = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("watcher.py")), *command],
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.stop)
        self._wait(f"http://127.0.0.1:{port}/health", wait_seconds)

    def _wait(self, health: str, seconds: float) -> None:
        print(f"{self.kind} starts; its log: {self.log}")
        began = time.monotonic()
        with tqdm(desc=f"waiting for {self.kind}", bar_format="{desc}: {elapsed} {postfix}", disable=None) as bar:
            while not _answers(health):
                if self.watcher.poll() is not None:
                    raise RunError(
                        f"{self.kind} ended before it was ready; the end of {self.log}:\n{self._last_lines(15)}"
                    )
                if time.monotonic() - began > seconds:
                    raise RunError(
                        f"{self.kind} was not ready after {seconds:g} seconds (--server_seconds allows more); "
                        f"the end of {self.log}:\n{self._last_lines(5)}"
                    )
                bar.set_postfix_str(self._last_lines(1)[:80])
                time.sleep(0.5)
        print(f"{self.kind} is ready after {time.monotonic() - began:.0f} s")

    def _last_lines(self, count: int) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])

    def stop(self) -> None:
        atexit.unregister(self.stop)
        self.watcher.stdin.close()
        self.watcher.wait()


def _executable(name: str, kind: str) -> str:
    """The program beside this Python, or on the PATH."""
    if name == "python":
        return sys.executable
    places = [os.path.dirname(sys.executable), *os.environ.get("PATH", "").split(os.pathsep)]
    found = next((p for place in places if os.access(p := os.path.join(place, name), os.X_OK)), None)
    if not found:
        raise UsageError(
            f"--engine_server {kind}: there is no program {name}; install it, for vllm with uv pip install -r requirements-vllm.txt"
        )
    return found


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
