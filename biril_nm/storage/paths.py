"""Output paths: no overwriting by accident, and writes that appear whole or not at all.

An output is written beside its place under the name ``.NAME.biril-XXXXXXXX.part``, flushed to the
disk and moved to its place. The writer holds ``.NAME.biril-lock`` meanwhile, so that a part whose
lock is free belongs to a process that was killed: the next writer in that folder removes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biril_nm.errors import OutputExistsError, OutputInUseError, StorageError
from biril_nm.storage.locks import LOCK, NO_PLACE, locked, no_place
from biril_nm.storage.platform import codes
from biril_nm.storage.signals import UNINTERRUPTED

__all__ = [
    "atomic_directory",
    "atomic_file",
    "check_output",
    "keep_inputs",
    "reports_full_disk",
]

FILE_WAIT_S = 10.0  # for another process that writes the same file
FOLDER_WAIT_S = 1.0  # for one that looks whether the writer of this folder is alive
PART, OLD = ".part", ".old"
STALE = re.compile(
    r"\.(?P<name>.+)(\.biril-[a-z0-9_]{8}(?P<kind>\.part|\.old)|\.biril-lock)", re.DOTALL
)
LONGEST_NAME = 255  # bytes, on all common file systems
MAX_NAME_BYTES = 200  # of a name to which ours adds; longer ones are hashed
FULL = codes("ENOSPC", "EDQUOT", "EFBIG")
NO_FLUSH = codes("EINVAL", "EROFS", "ENOTSUP", "EBADF")
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
MIB = 1 << 20


def check_output(path: str | Path, force: bool, folder_with: str | None = None) -> Path:
    """Return ``path`` if it may be written.

    Args:
        path: file or folder to make.
        force: replace an existing one of the same kind.
        folder_with: for folders: a file by which an earlier output is known; no other folder is
            ever replaced, unless it is empty.

    Raises:
        OutputExistsError: it exists and ``force`` is False, or it is something else.
        StorageError: nothing can be made there.
    """
    target = Path(path)
    _check_place(target)
    if not os.path.lexists(target):
        return target
    if not force:
        raise OutputExistsError(
            f"output '{target}' exists already. Pass --force (force=True) to replace it, or choose "
            f"another path"
        )
    if folder_with is None and target.exists() and not target.is_file():
        raise OutputExistsError(
            f"output '{target}' is a folder or device, which a file never replaces. Choose another "
            f"path"
        )
    if folder_with is not None and not _is_ours(target, folder_with):
        raise OutputExistsError(
            f"output '{target}' exists and is not a folder with {folder_with}, so it is not replaced. "
            f"Choose another path, or remove it yourself"
        )
    return target


def keep_inputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse outputs that would replace what a command reads, under whatever name. None is left out.

    Raises:
        OutputExistsError: an output is one of the inputs, a link to it, or a folder that holds one.
    """
    read = [path for path in inputs if path is not None]
    for output in outputs:
        for source in read:
            if output is not None and _holds(output, source):
                raise OutputExistsError(
                    f"output '{output}' is or holds '{source}', which this command reads; expected a place "
                    f"of its own, with --force too. Choose another path"
                )


def _holds(output: Path, source: Path) -> bool:
    """Whether they are one file, or the output is a folder on the way to the source."""
    with suppress(OSError, ValueError, RuntimeError):  # what is not there is not replaced
        ways = (source.resolve(), source.absolute())
        places = {place for way in ways for place in (way, *way.parents)}
        return any(output.samefile(place) for place in places if place.exists())
    return False


def _check_place(target: Path) -> None:
    """Refuse a place where nothing can be made, before anything is computed for it."""
    if target.name in ("", ".."):
        raise StorageError(f"output '{target}' has no name; expected a path that ends in one")
    long = [name for name in target.parts if len(os.fsencode(name)) > LONGEST_NAME]
    if long:
        raise StorageError(
            f"output '{target.name:.40}' is within a name of {len(os.fsencode(long[0]))} bytes; expected at "
            f"most {LONGEST_NAME}. Choose a shorter one"
        )
    folder = next((place for place in target.parents if os.path.lexists(place)), target.parent)
    if not folder.is_dir():
        raise StorageError(
            f"output '{target}' leads through '{folder}', which is not a folder. Choose another path"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            f"output '{target}' leads into '{folder}', where you may not write. Choose another path"
        )


def _is_ours(folder: Path, known_by: str) -> bool:
    return folder.is_dir() and ((folder / known_by).is_file() or not any(folder.iterdir()))


@contextmanager
def atomic_file(path: str | Path, force: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only if the block succeeds.

    Args:
        path: the file to make.
        force: replace an existing one; without it :func:`check_output` is asked again, since another
            writer may have finished meanwhile.

    Raises:
        OutputExistsError: it exists and ``force`` is False.
        OutputInUseError: another process writes the same file for a long time.
        StorageError: the disk is full.
    """
    target = Path(path)
    with reports_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with reports_full_disk(target), _only_writer(target, FILE_WAIT_S):
        if not force:
            check_output(target, force)
        part = _free_name(target, PART)
        try:
            os.close(os.open(part, NEW, 0o666))
            yield part
            _sync(part)
            part.replace(target)
            _sync(target.parent)
        finally:
            with UNINTERRUPTED:
                part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(
    path: str | Path, force: bool = True, folder_with: str | None = None
) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it replaces ``path`` only if the block succeeds.

    Args:
        path: the folder to make.
        force: see :func:`check_output`, which is asked if ``folder_with`` is given.
        folder_with: a file by which an earlier output is known.

    Raises:
        OutputExistsError: ``path`` may not be replaced, before or after the block.
        OutputInUseError: another process writes the same folder.
        StorageError: the disk is full.
    """
    target = Path(path)
    if folder_with is not None:
        check_output(target, force, folder_with)
    with reports_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with reports_full_disk(target), _only_writer(target):
        if folder_with is not None:  # another writer may have finished meanwhile
            check_output(target, force, folder_with)
        part = _free_name(target, PART)
        try:
            part.mkdir()
            yield part
            for folder, _, files in os.walk(part):
                for name in files:
                    _sync(Path(folder, name))
                _sync(Path(folder))
            if folder_with is not None:
                check_output(target, force, folder_with)
            _put_in_place(part, target)
            _sync(target.parent)
        finally:
            with UNINTERRUPTED:
                shutil.rmtree(part, ignore_errors=True)


def _put_in_place(part: Path, target: Path) -> None:
    """Move a folder to its place; the one that was there is removed afterwards."""
    if not os.path.lexists(target):
        part.replace(target)
        return
    old = _free_name(target, OLD)
    with UNINTERRUPTED:
        try:
            old.mkdir()
            target.replace(old / target.name)
            part.replace(target)
        finally:
            if not os.path.lexists(target):
                (old / target.name).replace(target)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def reports_full_disk(target: Path) -> Iterator[None]:
    """Turn the system's errors about disks and paths into a :class:`StorageError` that names ``target``."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_PLACE:
            raise no_place(f"output '{_final(target)}'", error) from error
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(target.parent).free
        raise StorageError(
            f"'{_final(target)}' does not fit on its disk ({error.strerror}): {free / MIB:.1f} MiB are free, "
            f"and what was written so far is removed. Free some space, or choose another disk"
        ) from error


def _final(path: Path) -> Path:
    """Where a file in a part will be once the part is in its place."""
    matches = ((part, STALE.fullmatch(part)) for part in path.parts)
    return Path(*(part if match is None else match["name"] for part, match in matches))


@contextmanager
def _only_writer(target: Path, wait_s: float = FOLDER_WAIT_S) -> Iterator[None]:
    """Hold the lock of ``target`` and remove what killed writers left in its folder."""
    name = _short_name(target)
    lock = target.with_name(f".{name}{LOCK}")
    with locked(lock, f"output '{target}'", wait_s) as exclusive:
        if exclusive:
            _remove_stale(target.parent, name)
        yield


def _remove_stale(folder: Path, own_name: str) -> None:
    """Remove the parts in ``folder`` whose writers are dead; the lock of ``own_name`` is held."""
    for entry in list(os.scandir(folder)):
        match = STALE.fullmatch(entry.name)
        if match is None:
            continue
        path, name = folder / entry.name, match["name"]
        if name == own_name:
            if match["kind"]:  # not our lock
                _remove(path, match["kind"])
            continue
        with (
            suppress(OutputInUseError, StorageError, OSError),
            locked(folder / f".{name}{LOCK}", f"'{path}'") as exclusive,
        ):
            if exclusive and match["kind"]:
                _remove(path, match["kind"])  # a lock goes as it is released


def _remove(path: Path, kind: str) -> None:
    """Remove a stale part; a folder that a killed writer had moved away goes back to its place."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if kind == OLD:
        for kept in path.iterdir():
            if not os.path.lexists(path.parent / kept.name):
                kept.replace(path.parent / kept.name)
    shutil.rmtree(path, ignore_errors=True)


def _free_name(target: Path, kind: str) -> Path:
    """A path beside ``target`` for its part; whoever asks holds the lock, so nobody else takes it.

    The name is known before there is anything of that name, so that an interrupt leaves nothing behind.
    """
    while True:
        path = target.with_name(f".{_short_name(target)}.biril-{os.urandom(4).hex()}{kind}")
        if not os.path.lexists(path):
            return path


def _short_name(target: Path) -> str:
    name = target.name
    if len(os.fsencode(name)) <= MAX_NAME_BYTES:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can say so."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags)
    except OSError:  # Windows opens no folders; a link has nothing to flush
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
    finally:
        os.close(handle)
