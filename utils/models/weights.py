"""Weights of models: fetched once (rank 0 first, see `Ranks.after_rank_0`), checked, and read without running what they
hold.
"""

import hashlib
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UsageError

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


def cache_folder() -> Path:
    """Where bare files are kept; the hub's own files lie in its own cache (`HF_HOME`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelset"


def local_file(path: str, flag: str, names: Iterable[str] = ()) -> Path:
    """`path` where it is a file; in a folder, the first of `names` that it holds.

    Raises: `UsageError` with a sentence that names `flag` and what was looked for.
    """
    names = list(names)
    found = [p for p in (Path(path), *(Path(path) / name for name in names)) if p.is_file()]
    if not found:
        wanted = f"a folder with {' or '.join(names)}, or the file itself" if names else "a file"
        state = "holds none of its files" if Path(path).is_dir() else "does not exist"
        raise UsageError(f"{flag} {path}: {wanted} is wanted, and this {state}")
    return found[0]


def from_address(url: str, sha256: str, what: str, flag: str) -> Path:
    """The file of a public address, from the cache or the network, its SHA-256 checked.

    Raises: `UsageError` with a sentence: what was wanted, where to put it.
    """
    name = urllib.parse.unquote(url.rsplit("/", 1)[1])
    target = cache_folder() / name
    if target.is_file() and sha256_of(target) == sha256:
        return target
    temporary = target.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=NETWORK_SECONDS) as answer, open(temporary, "wb") as out:
            while piece := answer.read(1 << 20):
                out.write(piece)
        found = sha256_of(temporary)
        if found != sha256:
            raise UsageError(
                f"{url} gave a file with the SHA-256 {found}, not {sha256}: {_by_hand(what, flag, f'as {target}')}"
            )
        os.replace(temporary, target)
    except OSError as error:
        raise UsageError(
            f"{what} is wanted, and {url} cannot be reached ({error}): {_by_hand(what, flag, f'as {target}')}"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def from_hub(repository: str, names: list[str], what: str, flag: str) -> Path:
    """The file `names[0]` of a repository of the Hugging Face hub, or of `HF_ENDPOINT`, with the other `names` beside
    it.

    Raises: `UsageError` with a sentence: what was wanted, where to put it.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    def fetch(**options) -> Path:
        return [Path(huggingface_hub.hf_hub_download(repository, name, **options)) for name in reversed(names)][-1]

    try:
        return fetch(local_files_only=True)
    except OSError:
        pass  # not in the cache yet
    place = f"{huggingface_hub.constants.ENDPOINT}/{repository}"
    try:
        _probe(huggingface_hub.constants.ENDPOINT)
        return fetch()
    except (OSError, HTTPError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{what} is wanted, and {place} cannot be reached ({reason}): {_by_hand(' and '.join(names), flag)}, "
            "or set HF_ENDPOINT to a mirror"
        ) from None


def snapshot(repository: str) -> Path:
    """The folder of a model: `repository` itself where it is one, else that repository of the hub (`HF_ENDPOINT`).

    Raises: `UsageError` with a sentence: what was wanted, where to put it.
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
    """Whether a model's folder brings a tokenizer's words: without them transformers makes up one that knows none, for some families."""
    names = ("tokenizer.*", "vocab.*", "tekken.json", "*.model", "*.tiktoken")
    return any(found for name in names for found in folder.glob(name))


def _probe(address: str) -> None:
    """Raises: `OSError` when nothing answers at `address`; huggingface_hub would try for half a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=NETWORK_SECONDS).close()
    except (
        urllib.error.URLError
    ) as error:  # an answer that says no, or certificates that only the hub knows, are its business
        if isinstance(error.reason, (socket.gaierror, ConnectionError, TimeoutError)):
            raise


def _by_hand(what: str, flag: str, place: str = "") -> str:
    return f"fetch {what} where there is a network, put it here{f' {place} or' if place else ''} anywhere and give the path with {flag}"


def read_tensors(path: str | os.PathLike, flag: str, trusted_script_sha256: str = "") -> "dict[str, torch.Tensor]":
    """Named tensors of a `.safetensors` file or of one that `torch.save` wrote, read without running code that it may
    hold.

    A TorchScript archive is read only when it is the one with `trusted_script_sha256`.

    Raises: `UsageError` with a sentence when the file holds something else.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if str(path).endswith(".safetensors"):
            tensors = load_file(path)
        elif trusted_script_sha256 and sha256_of(path) == trusted_script_sha256:
            tensors = dict(torch.jit.load(path, map_location="cpu").state_dict())
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's words on a TorchScript archive, which fails here
                tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a foreign file makes an unpickler raise has no common type
        raise UsageError(
            f"{flag} {path}: no weights that can be read safely: neither safetensors nor tensors alone that torch.save wrote"
        ) from None
    tensors = tensors.get("state_dict", tensors) if isinstance(tensors, dict) else {}
    if not tensors or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in tensors.items()):
        raise UsageError(f"{flag} {path}: this file holds no named tensors, so it is no model's weights")
    return tensors


def load_into(model: "torch.nn.Module", tensors: "dict[str, torch.Tensor]", path: str | os.PathLike, flag: str) -> None:
    """Put all `tensors` into `model`, which must want just these.

    Raises: `UsageError` with a sentence that says the first thing that does not fit.
    """
    wanted = model.state_dict()
    for key in sorted({*wanted, *tensors}):
        there, here = (f"{list(d[key].shape)}" if key in d else "nothing" for d in (tensors, wanted))
        if there != here:
            raise UsageError(f"{flag} {path}: weights of another model: {key} holds {there} where {here} is wanted")
    model.load_state_dict(tensors)
