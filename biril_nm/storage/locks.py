"""One writer at a time: lock files that name the process that holds them.

The operating system holds the lock, not the file: a process that is killed frees it, and a lock
file that is left behind blocks nobody.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from biril_nm.errors import ConfigError, OutputInUseError, StorageError
from biril_nm.storage.platform import codes
from biril_nm.storage.signals import UNINTERRUPTED

__all__ = ["LOCK", "NO_PLACE", "lock_folder", "locked", "no_place"]

LOCK = ".biril-lock"
MAX_OWNER_BYTES = 4096
MAX_COMMAND = 200
POLL_S = 0.05  # between two looks at a lock
LOOKS = 10  # for the name of who holds it
NO_LOCKS = codes("ENOSYS", "ENOLCK", "EOPNOTSUPP")  # file systems that cannot lock
# What a folder says that is missing, not one, or not ours.
NO_PLACE = codes(
    "ENOENT", "ENOTDIR", "EEXIST", "EISDIR", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP"
)
CREATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

log = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: str | Path, wait_s: float = 0.0) -> Iterator[Path]:
    """Be the only writer of a folder, which is made if it is missing; see :func:`locked`.

    Raises:
        ConfigError: the path is that of a file.
        StorageError: the folder cannot be made or written.
        OutputInUseError: another process writes into it; the message names that process.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"output folder '{target}' leads to a file; expected a folder. Choose another one"
        ) from None
    except OSError as error:
        raise no_place(f"output folder '{target}'", error) from error
    with locked(target / LOCK, f"output folder '{target}'", wait_s):
        yield target


@contextmanager
def locked(lock_file: Path, what: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold ``lock_file``, and remove it at the end.

    Args:
        lock_file: the file; its folder exists.
        what: what it protects, for messages.
        wait_s: how long to wait for a process that holds it.

    Yields:
        True, or False where the file system has no locks and nothing is protected.

    Raises:
        OutputInUseError: another process holds it; the message names that process.
        StorageError: no lock file can be made there.
    """
    import filelock  # here, because it takes longer to import than most files to write

    lock = filelock.FileLock(str(lock_file), timeout=0, fallback_to_soft=False)
    try:
        exclusive = _acquired(lock, lock_file, what, wait_s)
        if exclusive:
            with suppress(OSError):  # a full disk: the lock holds without a name
                lock_file.write_text(_this_process(), encoding="utf-8")
        yield exclusive
    finally:
        with UNINTERRUPTED:
            if lock.is_locked:
                with suppress(OSError):  # Windows keeps open files
                    lock_file.unlink()
                lock.release()
            del lock  # here, since a signal that raises in its __del__ would be lost


def _acquired(lock: Any, lock_file: Path, what: str, wait_s: float) -> bool:
    """Take a lock; False where the file system has none."""
    import filelock

    end = time.monotonic() + wait_s
    while True:
        try:
            with UNINTERRUPTED:
                _check_regular(lock_file, what)
                lock.acquire()
            return True
        except filelock.Timeout as error:
            if time.monotonic() >= end:
                raise OutputInUseError(
                    f"{what} is in use by {_owner(lock_file)}; expected one writer at a time. Wait until "
                    f"that process ends, or choose another output"
                ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning("'%s' has no file locks; do not write it twice at once", lock_file.parent)
            with suppress(OSError):
                lock_file.unlink()
            return False
        time.sleep(POLL_S)


def _check_regular(lock_file: Path, what: str) -> None:
    """Refuse a place that takes no files, for which filelock would wait, and what is no file."""
    try:
        handle = os.open(lock_file, CREATE, 0o644)
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        os.close(handle)
    except OSError as error:
        if error.errno in NO_PLACE:
            raise no_place(what, error) from error
        regular = True  # what is wrong with it comes out as it is locked
    if not regular:
        raise StorageError(
            f"{what} cannot be locked: '{lock_file}' is not a regular file. Remove it"
        )


def no_place(what: str, error: OSError) -> StorageError:
    """What to raise where the system cannot make ``what``."""
    where = f" at '{error.filename}'" if error.filename else ""
    return StorageError(
        f"{what} cannot be written: {error.strerror}{where}. Choose a place where you may make files"
    )


def _this_process() -> str:
    command = shlex.join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": command[:MAX_COMMAND],
            "since": since,
        }
    )


def _owner(lock_file: Path) -> str:
    """What the lock file says about its holder, on one line; a new holder is just writing it."""
    for _ in range(LOOKS):
        try:
            with lock_file.open(encoding="utf-8") as stream:
                owner = json.loads(stream.read(MAX_OWNER_BYTES))
            text = (
                f"process {owner['pid']} on host {owner['host']} ({owner['command']}), since "
                f"{owner['since']}"
            )
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            time.sleep(POLL_S)
        else:
            return "".join(c if c.isprintable() else " " for c in text)
    return "another process"
