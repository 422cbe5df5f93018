"""Weights of models: fetched once (rank 0 first, see `Ranks.after_rank_0`), checked, and read without running what they
hold.
"""

import hashlib
import importlib.util
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UsageError, install

if TYPE_CHECKING:
    import torch

NETWORK_SECONDS = 30  # without an answer


def sha256_of(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def from_package(package: str, pattern: str, requirement: str, sha256: str) -> Path:
    """The file of weights inside an installed package, which is looked up and not imported.

    pattern: of the file, in the package's folder. requirement: what brings it, for the message.

    Raises: `UsageError` where it is not there, or is another file.
    """
    spec = importlib.util.find_spec(package)
    found = sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
    again = install(f"--no-deps --reinstall {requirement}")
    if not found:
        raise UsageError(f"{pattern}, which comes in the package {requirement}, is not installed: {again}")
    if sha256_of(found[-1]) != sha256:
        raise UsageError(f"{found[-1]}: the SHA-256 is not that of the weights this version knows: {again}")
    return found[-1]


def cache_folder() -> Path:
    """Where bare files are kept; the hub's own files are in its own cache (`HF_HOME`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelset"


def local_file(path: str | os.PathLike, names: Iterable[str] = ()) -> Path:
    """`path` where it is a file; in a folder, the first of `names` that it holds.

    Raises: `UsageError` that says what was looked for.
    """
    names = list(names)
    found = [p for p in (Path(path), *(Path(path) / name for name in names)) if p.is_file()]
    if not found:
        expected = f"a folder with {' or '.join(names)}, or the file itself" if names else "a file"
        state = "holds none of its files" if Path(path).is_dir() else "does not exist"
        raise UsageError(f"{path}: expected {expected}, but this {state}")
    return found[0]


def from_address(url: str, sha256: str, what: str) -> Path:
    """The file of a public address, from the cache or the network, its SHA-256 checked.

    Raises: `UsageError` that says what is needed and where to put it.
    """
    name = urllib.parse.unquote(url.rsplit("/", 1)[1])
    by_hand = _by_hand(what, f"as {cache_folder() / name}")
    try:
        return download(url, cache_folder(), name, f"sha256:{sha256}")
    except ValueError as error:  # pooch's, of a file with another hash, which it removes
        raise UsageError(f"{url} returned a different file ({error}): {by_hand}") from None
    except OSError as error:
        raise UsageError(f"{what} is needed, but {url} cannot be reached ({error}): {by_hand}") from None


def download(url: str, folder: Path, name: str, known_hash: str | None = None) -> Path:
    """The file at `url`, kept in `folder` under `name`, which it gets when it is whole and has `known_hash`.

    Raises: OSError of networks and disks; ValueError for another hash.
    """
    import pooch  # here, because it takes a tenth of a second

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(timeout=NETWORK_SECONDS, chunk_size=1 << 20)
    return Path(pooch.retrieve(url, known_hash, name, folder, downloader=downloader))


def from_hub(repository: str, names: list[str], what: str) -> Path:
    """The file `names[0]` of a repository of the Hugging Face hub, or of `HF_ENDPOINT`, with the other `names` beside
    it.

    Raises: `UsageError` that says what is needed and where to put it.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    def fetch(local_files_only: bool) -> Path:
        files = [
            huggingface_hub.hf_hub_download(repository, name, local_files_only=local_files_only)
            for name in reversed(names)
        ]
        return Path(files[-1])

    try:
        return fetch(local_files_only=True)
    except OSError:
        pass  # not in the cache yet
    endpoint = huggingface_hub.constants.ENDPOINT
    try:
        _probe(endpoint)
        return fetch(local_files_only=False)
    except (OSError, HTTPError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{what} is needed, but {endpoint}/{repository} cannot be reached ({reason}): {_by_hand(' and '.join(names))}, "
            "or set HF_ENDPOINT to a mirror"
        ) from None


def snapshot(repository: str) -> Path:
    """The folder of a model: `repository` itself where it is one, else that repository of the hub (`HF_ENDPOINT`).

    Raises: `UsageError` that says what is needed and where to put it.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError

    if Path(repository).is_dir():
        return Path(repository)
    leave_out = ["*.pth", "*.pt", "*.onnx", "*.gguf", "*.msgpack", "*.h5", "original/*", "consolidated*"]
    try:
        if not constants.HF_HUB_OFFLINE:
            _probe(constants.ENDPOINT)
        # Not what the cache has first, as of single files: a download that was interrupted leaves a folder there.
        return Path(huggingface_hub.snapshot_download(repository, ignore_patterns=leave_out))
    except (OSError, HTTPError, ValueError) as error:
        try:
            return Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
        except (OSError, ValueError):
            pass
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{repository} cannot be downloaded from {constants.ENDPOINT} ({reason}): download it on a machine with "
            "network access, copy the folder here and give its path instead, or set HF_ENDPOINT to a mirror"
        ) from None


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder brings a tokenizer's vocabulary: without it transformers makes up an empty one, for some
    families.
    """
    names = ("tokenizer.*", "vocab.*", "tekken.json", "*.model", "*.tiktoken")
    return any(found for name in names for found in folder.glob(name))


def _probe(address: str) -> None:
    """Raises: `OSError` when nothing answers at `address`; huggingface_hub would try for half a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=NETWORK_SECONDS).close()
    except urllib.error.URLError as error:
        # A refusal, or certificates that only the hub's own client knows, are for that client to judge.
        if isinstance(error.reason, (socket.gaierror, ConnectionError, TimeoutError)):
            raise


def _by_hand(what: str, place: str = "") -> str:
    return f"download {what} on a machine with network access, put it on this machine {f'{place}, or ' if place else ''}anywhere and give the path"


def read_tensors(path: str | os.PathLike, trusted_script_sha256: str = "") -> "dict[str, torch.Tensor]":
    """Named tensors of a `.safetensors` file or of one that `torch.save` wrote, read without running code that it may
    hold.

    A TorchScript archive is read only when it is the one with `trusted_script_sha256`.

    Raises: `UsageError` when the file holds something else.
    """
    import torch
    from safetensors.torch import load_file

    try:
        held: object
        if str(path).endswith(".safetensors"):
            held = load_file(path)
        elif trusted_script_sha256 and sha256_of(path) == trusted_script_sha256:
            held = dict(torch.jit.load(path, map_location="cpu").state_dict())
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of a TorchScript archive, which fails here
                held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  # what a foreign file makes an unpickler raise has no common type
        raise UsageError(
            f"{path}: no weights that can be loaded safely: neither safetensors nor a torch.save file of tensors only"
        ) from None
    tensors = held.get("state_dict", held) if isinstance(held, dict) else {}
    if not tensors or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in tensors.items()):
        raise UsageError(f"{path}: this file holds no named tensors, so it is not a model's weights")
    return tensors


def load_into(model: "torch.nn.Module", tensors: "dict[str, torch.Tensor]", path: str | os.PathLike) -> None:
    """Put all `tensors` into `model`, which must expect exactly these.

    Raises: `UsageError` that says the first thing that does not fit.
    """
    expected = model.state_dict()
    for key in sorted({*expected, *tensors}):
        there, here = (f"{list(d[key].shape)}" if key in d else "nothing" for d in (tensors, expected))
        if there != here:
            raise UsageError(f"{path}: weights of another model: {key} holds {there} where {here} is expected")
    model.load_state_dict(tensors)
