"""A model server on this machine for the length of one run: started on a free port, waited for, and always stopped.

The server is the child of a watcher process (watcher.py) that reads a pipe from us. However we end, even killed, the
pipe ends with us, and the watcher stops the server with all processes it has started.
"""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from utils.errors import RunError, UsageError, install


@dataclass(frozen=True)
class Server:
    """How to start a server: `command`, with {model}, a local folder, {name}, what requests call the model, and {port}.

    `own_name`: requests name the model; else they name its folder. `chat_template`: knows --chat-template FILE.
    """

    command: str
    own_name: bool = True
    chat_template: bool = False


SERVERS = {
    "vllm": Server("vllm serve {model} --host 127.0.0.1 --port {port} --served-model-name {name}", chat_template=True),
    "sglang": Server(
        "python -m sglang.launch_server --model-path {model} --host 127.0.0.1 --port {port} --served-model-name {name}",
        chat_template=True,
    ),
    "lmdeploy": Server(
        "lmdeploy serve api_server {model} --server-name 127.0.0.1 --server-port {port} --model-name {name}"
    ),
    "transformers": Server("transformers serve {model} --host 127.0.0.1 --port {port}", own_name=False),
}


class EngineServer:
    """The running server `kind` with the model in `folder`: it answers at `url` to requests for `name` once the
    constructor has returned. `more_args`: further arguments of its command.

    Raises: `UsageError` when it is not installed; `RunError` when it ends, or is not ready within `wait_seconds`.
    """

    def __init__(self, kind: str, folder: Path, name: str, log: Path, wait_seconds: float, more_args: list[str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.kind, self.log, self.url = kind, log, f"http://127.0.0.1:{port}/v1"
        self.name = name if SERVERS[kind].own_name else str(folder)
        program, *arguments = SERVERS[kind].command.split()
        arguments = [part.format(model=folder, name=self.name, port=port) for part in arguments]
        command = [_executable(program), *arguments, *more_args]
        for variable in ("no_proxy", "NO_PROXY"):  # the user's proxy does not lead to this machine
            os.environ[variable] = ",".join(filter(None, [os.environ.get(variable), "127.0.0.1"]))
        with open(log, "wb") as out:
            self.watcher = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("watcher.py")), *command],
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.stop)
        self._wait(f"http://127.0.0.1:{port}/health", wait_seconds)

    def _wait(self, health: str, seconds: float) -> None:
        print(f"{self.kind} is starting; log: {self.log}")
        start = time.monotonic()
        with tqdm(desc=f"waiting for {self.kind}", bar_format="{desc}: {elapsed} {postfix}", disable=None) as bar:
            while not _is_healthy(health):
                if self.watcher.poll() is not None:
                    raise RunError(
                        f"{self.kind} ended before it was ready; the last lines of {self.log}:\n{self._last_lines(15)}"
                    )
                if time.monotonic() - start > seconds:
                    raise RunError(
                        f"{self.kind} was not ready after {seconds:g} seconds (--server_seconds allows more); "
                        f"the last lines of {self.log}:\n{self._last_lines(5)}"
                    )
                bar.set_postfix_str(self._last_lines(1)[:80])
                time.sleep(0.5)
        print(f"{self.kind} is ready after {time.monotonic() - start:.0f} s")

    def _last_lines(self, count: int) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])

    def stop(self) -> None:
        atexit.unregister(self.stop)
        if self.watcher.stdin:
            self.watcher.stdin.close()
        self.watcher.wait()


def _executable(name: str) -> str:
    """The program, beside this Python or on the PATH.

    Raises: `UsageError` when it is on neither.
    """
    if name == "python":
        return sys.executable
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if not found:
        raise UsageError(
            f"the program {name} is not on the PATH; install it, vllm with: {install('-r requirements-vllm.txt')}"
        )
    return found


def _is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
