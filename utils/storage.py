"""Files behind URLs (`s3://bucket/key`), by fsspec: videos read by ranges, result files by working copies. Local paths
never come here further than `is_url`, and fsspec is imported for the first URL.

A working copy of `s3://bucket/a/b.jsonl` is `CACHE/s3/bucket/a/b.jsonl`: all code that reads, appends and locks files
works on it, and `upload` brings it to its URL, which its path tells. The remote file is the truth: a copy is kept
where the remote file is still the one that it was last fetched from or uploaded to (a hidden record beside it says
which), so that what a killed run had not uploaded yet is there for the next one; else it is fetched again.
"""

import errno
import fcntl
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from utils.errors import OutputError, UsageError, VideoError

PACKAGES = {"s3": "s3fs", "oss": "ossfs", "gs": "gcsfs", "hf": "huggingface_hub", "memory": "fsspec"}  # by scheme
SECRETS = re.compile(r"://[^/]*@|[?&][^=]*(secret|signature|credential|token|password|key)[^=]*=", re.IGNORECASE)
PAUSES = (0.5, 1, 2, 4, 8)  # seconds before the attempts after the first, each up to half longer, lest workers march
UPLOAD_SECONDS = 30  # between two uploads of a file that grows, and nine times what the last one took
SMALL = 4 << 20  # bytes: a file up to here is fetched by one request
BLOCK, LARGEST_BLOCK = 128 << 10, 4 << 20  # bytes of a request: the first, and those that reading on doubles it to
HELD_BLOCKS = 24 << 20  # bytes of a file that are kept for reading again
# What says which object this is: another endpoint has other buckets of the same names.
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL", "OSS_ENDPOINT", "HF_ENDPOINT")
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
        raise UsageError(f"{scheme}:// needs a package: pip install {PACKAGES[scheme]} ({error})") from None
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


def _ask(url: str, action: Callable[..., T], *arguments: Any, **more: Any) -> T:
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
        raise StorageError(
            errno.EACCES, "the storage refuses access; are the credentials in the environment right?", url
        ) from None
    except _errors() as error:
        if "Credentials" in type(error).__name__:
            raise StorageError(errno.EACCES, "there are no credentials in the environment", url) from None
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"no space left on the device for what is fetched of {url}") from None
        text = " ".join(str(error).split())[:200]
        raise _MayPass(
            errno.EIO, f"{len(PAUSES) + 1} attempts failed, the last with {type(error).__name__}: {text}", url
        ) from None


def _stamp(info: dict) -> dict:
    """What tells an object from another one under its name, out of what fsspec says of it."""
    names = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "blob_id", "created")
    version = next((str(info[name]) for name in names if info.get(name)), "")
    return {"size": info["size"], "version": version}


def info(url: str) -> dict | None:
    """fsspec's description of an object or folder; None where there is none. Raises: `StorageError`."""
    try:
        return _ask(url, filesystem(url).info, url)
    except StorageError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def exists(path: str) -> bool:
    return info(path) is not None if is_url(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
    return (info(path) or {}).get("type") == "directory" if is_url(path) else os.path.isdir(path)


def find(url: str, prefix: str = "") -> list[str]:
    """Paths of all objects in a folder and below, relative to it; with `prefix` only those whose paths begin so. None of
    a folder that is not there.

    One call of the storage for a thousand objects or so. Raises: `StorageError`.
    """
    fs, url = filesystem(url), url.rstrip("/")
    folder, _, name = f"{url}/{prefix}".rpartition("/")
    by_prefix = {"prefix": name} if name and url.partition("://")[0] in ("s3", "gs", "oss") else {}
    try:
        found = _ask(url, fs.find, folder, **by_prefix)
    except StorageError as error:
        if error.errno == errno.ENOENT:
            return []
        raise
    root = fs._strip_protocol(url).rstrip("/") + "/"
    relative = (path.removeprefix(root) for path in found if path.startswith(root))
    return [path for path in relative if path.startswith(prefix)]


def remove(path: str | os.PathLike) -> None:
    """Remove a file, behind its URL too; one that is not there is no error. Raises: `OSError`."""
    url = path if is_url(path) else url_of(path)
    if url:
        with _absent_is_fine():
            _ask(str(url), filesystem(str(url)).rm_file, url)
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
        _record_of(Path(path)).unlink(missing_ok=True) if url else None


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        if error.errno != errno.ENOENT:
            raise


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
    return _ask(url, fetch)


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
    stamp, size = _stamp(found), found["size"]
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


# ---- Working copies --------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where working copies are: REELSET_CACHE, else in the user's cache folder."""
    base = os.environ.get("REELSET_CACHE") or os.environ.get("XDG_CACHE_HOME")
    if not base:
        home = os.path.expanduser("~")
        base = os.path.join(home, ".cache") if os.path.isabs(home) else tempfile.gettempdir()
    return Path(os.path.abspath(base), "reelset-remote")


def local_path(path: str | os.PathLike) -> Path:
    """The working copy of a URL, fetched or not; a local path as it is. Raises: `UsageError`."""
    if not is_url(path):
        return Path(path)
    url = str(path)
    check_url(url)
    scheme, _, key = url.partition("://")
    parts = key.strip("/").split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise UsageError(f"{url}: a URL must name a bucket and have no empty part, no . and no ..")
    chosen = [os.environ[name] for name in ENDPOINTS if os.environ.get(name)]
    place = f"{scheme}-{sha256(repr(chosen).encode()).hexdigest()[:8]}" if chosen else scheme
    return Path(cache_folder(), place, *parts)


def url_of(path: str | os.PathLike) -> str | None:
    """The URL whose working copy `path` is; None for any other file."""
    text, root = os.fspath(path), f"{cache_folder()}{os.sep}"
    if not isinstance(text, str) or not text.startswith(root):
        return None
    place, _, key = text.removeprefix(root).partition(os.sep)
    return f"{place.partition('-')[0]}://{key}"


def shown(text: object) -> str:
    """A message with URLs where it names their working copies."""
    root = re.escape(f"{cache_folder()}{os.sep}")
    return re.sub(rf"{root}(\w+)(-[0-9a-f]{{8}})?/", r"\1://", str(text))


def _record_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.remote")


def _read_record(path: Path) -> dict | None:
    try:
        found = json.loads(_record_of(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_record(path: Path, stamp: dict) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(stamp), encoding="utf-8")
    temporary.replace(_record_of(path))


@contextmanager
def _unlocked(path: Path) -> Iterator[bool]:
    """Whether a working copy may be replaced: it is locked inside the block; false where a run of this machine has it."""
    if not path.exists():
        yield True
        return
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError:  # a network file system without locks
            free = True
        yield free


def working_copy(path: str | os.PathLike) -> Path:
    """A file to read or resume: of a URL its working copy, brought up to date with `sync`; a local path as it is."""
    found = local_path(path)
    if is_url(path):
        sync(found)
    return found


def sync(path: Path) -> None:
    """Bring a working copy, its companions (errors, settings) and all their parts in step with the remote files: fetch
    what is newer there, upload what a killed run left here, forget what was removed there.

    Raises: `OSError` (`StorageError`).
    """
    url = url_of(path)
    if url is None:
        return
    fs, folder = filesystem(url), url.rpartition("/")[0]
    name = re.compile(
        rf"{re.escape(path.name)}|{re.escape(path.stem)}\.(settings\.json|errors\.jsonl|(errors\.)?part-\d+\.jsonl)"
    )
    try:
        listed = _ask(folder, fs.ls, folder, detail=True)
    except StorageError as error:
        if error.errno != errno.ENOENT:
            raise
        listed = []
    there = {one["name"].rpartition("/")[2]: _stamp(one) for one in listed if one["type"] == "file"}
    there = {key: stamp for key, stamp in there.items() if name.fullmatch(key)}
    path.parent.mkdir(parents=True, exist_ok=True)
    here = {one.name for one in path.parent.iterdir() if name.fullmatch(one.name)}
    settings = path.with_suffix(".settings.json")
    if settings.name not in there and _read_record(settings) is not None:  # the dataset was removed there
        for key in here - set(there):
            _forget(path.with_name(key))
            here.discard(key)
    for key in sorted({*here, *there}):
        copy = path.with_name(key)
        record = _read_record(copy)
        if key in here and record == there.get(key):
            if record is None or copy.stat().st_size > record["size"]:
                with _unlocked(copy) as free:
                    if free:
                        upload(copy)
        elif key not in there:
            _forget(copy)
        else:
            with _unlocked(copy) as free:
                if free:
                    _download(f"{folder}/{key}", copy, there[key])


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    _record_of(path).unlink(missing_ok=True)


def _download(url: str, path: Path, stamp: dict) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        _ask(url, filesystem(url).get_file, url, name)
        if os.path.getsize(name) != stamp["size"]:  # it has changed since it was listed
            found = info(url)
            stamp = _stamp(found) if found else stamp
        os.replace(name, path)
        _write_record(path, stamp)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


_uploads: dict[Path, tuple[float, float]] = {}  # of each working copy: when the last one ended, and how long it took


def upload(path: str | os.PathLike, growing: bool = False, only_if_due: bool = False) -> None:
    """Bring a working copy to its URL; nothing for any other file. Until it is whole there, readers see the file before.

    `growing`: another run may write it too, which is an error where it is found out. `only_if_due`: not before
    UPLOAD_SECONDS have passed.

    Raises: `StorageError`.
    """
    url, path = url_of(path), Path(path)
    if url is None:
        return
    begun = time.monotonic()
    ended, took = _uploads.setdefault(path, (begun, 0.0))
    if only_if_due and begun - ended < max(UPLOAD_SECONDS, 9 * took):
        return
    if growing:
        found = info(url)
        if (_stamp(found) if found else None) != _read_record(path):
            raise StorageError(
                errno.EBUSY, "another run has written it meanwhile; end that one, and run this command again", url
            )
    put(path, url)
    found = info(url)
    if found:
        _write_record(path, _stamp(found))
    _uploads[path] = (time.monotonic(), time.monotonic() - begun)


def put(path: str | os.PathLike, url: str) -> None:
    """Upload a file whole. Raises: `StorageError`."""
    _ask(url, filesystem(url).put_file, os.fspath(path), url)
