"""Working copies of result files behind URLs (see `storage`).

A working copy of `s3://bucket/a/b.jsonl` is `CACHE/s3/bucket/a/b.jsonl`: all code that reads, appends and locks files
works on it, and `upload` brings it to its URL, which its path tells. The remote file is the truth: a copy is kept
where the remote file is still the one that it was last fetched from or uploaded to (a hidden record beside it says
which), so that what a killed run had not uploaded yet is there for the next one; else it is fetched again.
"""

import errno
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from utils.errors import UsageError
from utils.storage import StorageError, ask, check_url, filesystem, info, is_url, put, stamp_of

UPLOAD_SECONDS = 30  # between two uploads of a file that grows, and nine times what the last one took
# What says which object this is: another endpoint has other buckets of the same names.
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL", "OSS_ENDPOINT", "HF_ENDPOINT")


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
        raise UsageError(f"{url}: a URL must name a bucket and have no empty part, no '.' and no '..'")
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


@contextmanager
def naming(path: Path, temporary: Path) -> Iterator[None]:
    """Around what writes `path` as `temporary`: an `OSError` that names no file, as that of a full disk, names this one."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        # FFmpeg's errors do not let their file be set, and some of pyarrow's have no number.
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


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
    try:
        with naming(_record_of(path), temporary):
            temporary.write_text(json.dumps(stamp), encoding="utf-8")
            temporary.replace(_record_of(path))
    finally:
        temporary.unlink(missing_ok=True)


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
        rf"{re.escape(path.name)}|{re.escape(path.stem)}\.(settings\.json|aside\.jsonl|errors\.jsonl|(errors\.)?part-\d+\.jsonl)"
    )
    try:
        listed = ask(folder, fs.ls, folder, detail=True)
    except StorageError as error:
        if error.errno != errno.ENOENT:
            raise
        listed = []
    there = {one["name"].rpartition("/")[2]: stamp_of(one) for one in listed if one["type"] == "file"}
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
        ask(url, filesystem(url).get_file, url, name)
        if os.path.getsize(name) != stamp["size"]:  # it has changed since it was listed
            found = info(url)
            stamp = stamp_of(found) if found else stamp
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
    started = time.monotonic()
    ended, took = _uploads.setdefault(path, (started, 0.0))
    if only_if_due and started - ended < max(UPLOAD_SECONDS, 9 * took):
        return
    if growing:
        found = info(url)
        if (stamp_of(found) if found else None) != _read_record(path):
            raise StorageError(
                errno.EBUSY, "another run has written it in the meantime; end that run, and run this command again", url
            )
    put(path, url)
    found = info(url)
    if found:
        _write_record(path, stamp_of(found))
    _uploads[path] = (time.monotonic(), time.monotonic() - started)


def remove(path: str | os.PathLike) -> None:
    """Remove a file, behind its URL too; one that is not there is no error. Raises: `OSError`."""
    url = path if is_url(path) else url_of(path)
    if url:
        with _absent_is_fine():
            ask(str(url), filesystem(str(url)).rm_file, url)
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
