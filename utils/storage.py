"""Files behind URLs (`s3://bucket/key`), by fsspec: videos read by ranges, result files by working copies. Local paths
never come here further than `is_url`, and fsspec is imported for the first URL.
"""

import errno
import os
import random
import re
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

from utils.errors import OutputError, UsageError, VideoError, install

PACKAGES = {"s3": "s3fs", "oss": "ossfs", "gs": "gcsfs", "hf": "huggingface_hub", "memory": "fsspec"}  # by scheme
SECRETS = re.compile(r"://[^/]*@|[?&][^=]*(secret|signature|credential|token|password|key)[^=]*=", re.IGNORECASE)
PAUSES = (0.5, 1, 2, 4, 8)  # seconds before the attempts after the first, each up to half longer, lest workers march
SMALL = 4 << 20  # bytes: a file up to here is fetched by one request
BLOCK, LARGEST_BLOCK = 128 << 10, 4 << 20  # bytes of a request: the first, and those that reading on doubles it to
HELD_BLOCKS = 24 << 20  # bytes of a file that are kept for reading again
T = TypeVar("T")


class StorageError(OSError):
    """What the storage refuses or cannot do after all attempts: errno, a sentence, the URL."""


def is_url(path: str | os.PathLike | None) -> bool:
    return isinstance(path, str) and path.partition("://")[0] in PACKAGES and "://" in path


def check_url(url: str) -> None:
    """Raises: `UsageError` for a URL that holds a secret, which would end in rows, logs and messages."""
    if SECRETS.search(url):
        scheme = url.partition("://")[0]
        raise UsageError(f"a {scheme}:// URL holds a key or a password; give credentials in the environment instead")


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL.

    Raises: `UsageError` where its package is missing, or where the URL holds a secret.
    """
    check_url(url)
    scheme = url.partition("://")[0]
    try:
        import fsspec

        options: dict = {"use_listings_cache": False}
        if scheme == "s3":  # the attempts are made here, one after the other, for every kind of storage
            given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **given}
        found = fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{scheme}:// needs a package: {install(PACKAGES[scheme])} ({error})") from None
    if scheme == "s3":
        found.retries = 1
    return found


def _errors() -> tuple[type[Exception], ...]:
    """What fails between here and a storage; libraries that are not loaded raise nothing."""
    found: list[type[Exception]] = [OSError, EOFError, TimeoutError]
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
        ("httpx", "HTTPError"),
    ):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


class _MayPass(StorageError):
    """A fault that another attempt may not meet."""


def ask(url: str, action: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """`action(...)`, again after growing pauses where it fails for a reason that may pass.

    Raises: `StorageError`.
    """
    for pause in PAUSES:
        with suppress(_MayPass):
            return _attempt(url, action, *arguments, **more)
        time.sleep(pause * random.uniform(1, 1.5))
    return _attempt(url, action, *arguments, **more)


def _attempt(url: str, action: Callable[..., T], *arguments: Any, **more: Any) -> T:
    try:
        return action(*arguments, **more)
    except FileNotFoundError:
        raise StorageError(errno.ENOENT, "no such bucket, folder or object", url) from None
    except PermissionError:
        raise StorageError(errno.EACCES, "access denied; are the credentials in the environment right?", url) from None
    except _errors() as error:
        if "Credentials" in type(error).__name__:
            raise StorageError(errno.EACCES, "no credentials in the environment", url) from None
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"no space left on the device to fetch {url}") from None
        text = " ".join(str(error).split())[:200]
        raise _MayPass(
            errno.EIO, f"{len(PAUSES) + 1} attempts failed, the last with {type(error).__name__}: {text}", url
        ) from None


def stamp_of(info: dict) -> dict:
    """What tells an object from another one under its name, out of what fsspec says of it."""
    names = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "blob_id", "created")
    version = next((str(info[name]) for name in names if info.get(name)), "")
    return {"size": info["size"], "version": version}


def info(url: str) -> dict | None:
    """fsspec's description of an object or folder; None where there is none. Raises: `StorageError`."""
    try:
        return ask(url, filesystem(url).info, url)
    except StorageError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def exists(path: str) -> bool:
    return info(path) is not None if is_url(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
    return (info(path) or {}).get("type") == "directory" if is_url(path) else os.path.isdir(path)


def entries(url: str) -> list[str]:
    """Names of the objects right in a folder; none of one that is not there. Raises: `StorageError`."""
    try:
        listed = ask(url, filesystem(url).ls, url.rstrip("/"), detail=True)
    except StorageError as error:
        if error.errno == errno.ENOENT:
            return []
        raise
    return [one["name"].rpartition("/")[2] for one in listed if one["type"] == "file"]


def find(url: str, prefix: str = "") -> list[str]:
    """Paths of all objects in a folder and below, relative to it; with `prefix` only those whose paths begin so. None of
    a folder that is not there.

    One call of the storage for a thousand objects or so. Raises: `StorageError`.
    """
    return list(versions_in(url, prefix))


def versions_in(url: str, prefix: str = "") -> dict[str, dict]:
    """Of each object that `find` finds its stamp, and when it was `modified`, in seconds of the epoch."""
    fs, url = filesystem(url), url.rstrip("/")
    folder, _, name = f"{url}/{prefix}".rpartition("/")
    by_prefix = {"prefix": name} if name and url.partition("://")[0] in ("s3", "gs", "oss") else {}
    try:
        found = ask(url, fs.find, folder, detail=True, **by_prefix)
    except StorageError as error:
        if error.errno == errno.ENOENT:
            return {}
        raise
    root = fs._strip_protocol(url).rstrip("/") + "/"
    relative = {
        path.removeprefix(root): {**stamp_of(one), "modified": _modified(one)}
        for path, one in found.items()
        if path.startswith(root)
    }
    return {path: stamp for path, stamp in relative.items() if path.startswith(prefix)}


def _modified(info: dict) -> float:
    """Now where the storage does not say."""
    found = next((info[name] for name in ("LastModified", "mtime", "updated", "created") if info.get(name)), None)
    if isinstance(found, str):
        with suppress(ValueError):
            found = datetime.fromisoformat(found.replace("Z", "+00:00"))
    return (
        found.timestamp() if isinstance(found, datetime) else found if isinstance(found, (int, float)) else time.time()
    )


# ---- Reading an object -----------------------------------------------------------------------------------------------


class RemoteFile:
    """An object as a file to read and seek in. `fetched_bytes` and `requests` count what this process has fetched.

    `name` is its URL. `blank`: reads give zeros and fetch nothing, for a demuxer that knows by its index where packets
    are and whose data nobody looks at. `failed`: the error that a read ended with, which FFmpeg may take for the end.
    """

    fetched_bytes = 0
    requests = 0

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes], blank: bool = False):
        self.name, self.size, self.fetch, self.blank = name, size, fetch, blank
        self.position = 0
        self.failed: OSError | None = None

    def read(self, count: int = -1) -> bytes:
        stop = self.size if count < 0 else min(self.size, self.position + count)
        if stop <= self.position:
            return b""
        try:
            data = bytes(stop - self.position) if self.blank else self.fetch(self.position, stop)
        except OSError as error:
            self.failed = error
            raise
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def seekable(self) -> bool:
        return True

    def again(self, blank: bool = False) -> "RemoteFile":
        """Another one on the same object, at its start."""
        return RemoteFile(self.name, self.size, self.fetch, blank)


def _fetch(url: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of an object. Raises: `StorageError`."""

    def fetch() -> bytes:
        data = fs.cat_file(url, start=start, end=stop)
        if len(data) != stop - start:
            raise EOFError(f"{len(data)} of {stop - start} bytes came")
        return data

    fs = filesystem(url)
    if stop <= start:
        return b""
    RemoteFile.requests += 1
    RemoteFile.fetched_bytes += stop - start
    return ask(url, fetch)


class _Blocks:
    """Ranges of an object, kept until HELD_BLOCKS are exceeded; where reading goes on, requests grow."""

    def __init__(self, url: str, size: int):
        self.url, self.size = url, size
        self.held: OrderedDict[int, bytes] = OrderedDict()  # by the number of a BLOCK
        self.next_block, self.length = -1, 1  # in blocks: where reading on would go on, and how many at once

    def __call__(self, start: int, stop: int) -> bytes:
        numbers = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        found = {}
        for number in numbers:
            if number not in self.held:
                self._load(number)
            self.held.move_to_end(number)
            found[number] = self.held[number]
        joined = b"".join(found.values())
        while len(self.held) * BLOCK > HELD_BLOCKS:
            self.held.popitem(last=False)
        return joined[start - numbers[0] * BLOCK : stop - numbers[0] * BLOCK]

    def _load(self, number: int) -> None:
        self.length = min(2 * self.length, LARGEST_BLOCK // BLOCK) if number == self.next_block else 1
        start = number * BLOCK
        data = _fetch(self.url, start, min(self.size, start + self.length * BLOCK))
        for i in range(0, len(data), BLOCK):
            self.held[number + i // BLOCK] = data[i : i + BLOCK]
        self.next_block = number + self.length


class _Copy:
    """A whole object in a temporary file without a name, so that nothing is left of it whatever ends this process."""

    def __init__(self, url: str, size: int):
        self.file = tempfile.TemporaryFile(prefix="reelset-")
        try:
            for start in range(0, size, LARGEST_BLOCK):
                self.file.write(_fetch(url, start, min(size, start + LARGEST_BLOCK)))
            self.file.flush()
        except OSError as error:
            self.file.close()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(f"no space left on the device for a temporary copy of {url}") from None
            raise

    def __call__(self, start: int, stop: int) -> bytes:
        return os.pread(self.file.fileno(), stop - start, start)


# The object that this process read last: one video is opened several times in a row, for its packets, frames and audio.
_last: tuple[str, dict, bool, RemoteFile] | None = None


def open_remote(url: str, by_ranges: bool) -> RemoteFile:
    """An object, read in whole where it is small, by ranges where that is wanted, else from a temporary copy.

    Raises: `StorageError`.
    """
    global _last
    if url in _pinned:
        return _pinned[url].again()
    found = info(url)
    if found is None:
        raise StorageError(errno.ENOENT, "no such object", url)
    if found["type"] != "file":
        raise StorageError(errno.EISDIR, "is a folder", url)
    stamp, size = stamp_of(found), found["size"]
    if _last and _last[:2] == (url, stamp) and (by_ranges or _last[2]):
        return _last[3].again()
    _last = None  # lest two are held at once
    if size <= SMALL:
        data = _fetch(url, 0, size)
        whole, opened = True, RemoteFile(url, size, lambda start, stop: data[start:stop])
    elif by_ranges:
        whole, opened = False, RemoteFile(url, size, _Blocks(url, size))
    else:
        whole, opened = True, RemoteFile(url, size, _Copy(url, size))
    _last = (url, stamp, whole, opened)
    return opened.again()


_pinned: dict[str, RemoteFile] = {}


@contextmanager
def read_whole(path: str) -> Iterator[None]:
    """Inside the block an object, which will be read more than once and in whole, is read from a copy of it. Local files
    are as they are. Raises: `VideoError`.
    """
    if not is_url(path):
        yield
        return
    try:
        _pinned[path] = open_remote(path, by_ranges=False)
    except StorageError as error:
        raise VideoError(f"{path!r} cannot be read: {error.strerror}") from None
    try:
        yield
    finally:
        del _pinned[path]


def put(path: str | os.PathLike, url: str) -> None:
    """Upload a file whole. Raises: `StorageError`."""
    ask(url, filesystem(url).put_file, os.fspath(path), url)
