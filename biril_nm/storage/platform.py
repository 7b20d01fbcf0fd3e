"""What only some systems have. Linux is tested; elsewhere each of these has another way, or refuses by name.

No other module uses these functions of the system (a test looks).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import subprocess

fcntl: Any
msvcrt: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # all others
    msvcrt = None

__all__ = [
    "can_fork",
    "codes",
    "end_group",
    "give_back_growth",
    "in_large_pages",
    "in_own_group",
    "keep_freed_memory",
    "memory_bytes",
    "reserve",
    "resident_bytes",
    "signal_main_thread",
    "system_name",
    "try_lock",
    "unlock",
    "usable_cpus",
    "user_id",
]


def codes(*names: str) -> tuple[int, ...]:
    """Error numbers by name, of those that this system has."""
    return tuple(getattr(errno, name) for name in names if hasattr(errno, name))


# What a file system says that cannot reserve blocks.
NOT_RESERVING = codes("EINVAL", "ENOSYS", "EOPNOTSUPP")


def can_fork() -> bool:
    """Whether a process can go on as two with the same memory, as those of Lava do. Not on Windows."""
    return hasattr(os, "fork")


def usable_cpus() -> int:
    """CPUs that this process may use; all of them where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Bytes of memory; a very large number where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return 1 << 62
    return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))


PAGE = 4096  # bytes; memory is given out in multiples of it
MADV_HUGEPAGE = 14  # Linux, include/uapi/asm-generic/mman-common.h


def in_large_pages(address: int, n_bytes: int) -> None:
    """Ask for pages of 2 MiB, one fault instead of 512, for memory not written yet. On Linux alone."""
    advise = _madvise()
    begin = -(-address // PAGE) * PAGE
    end = (address + n_bytes) // PAGE * PAGE
    if advise is not None and end > begin:
        advise(begin, end - begin, MADV_HUGEPAGE)  # where there are none, it changes nothing


@cache
def _madvise() -> Any:
    if sys.platform != "linux":
        return None
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is not None:
        advise.argtypes, advise.restype = (
            (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
            ctypes.c_int,
        )
    return advise


# Settings of mallopt (glibc, malloc.h), and what they are once a program has freed a block of 32 MiB.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
USUAL = ((MMAP_MAX, 1 << 16), (MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, 64 << 20))
# Growth of a process from which kept memory is given back: pieces of it fit nothing any more.
GROWTH = 1.2


class _Kept:
    """What :func:`keep_freed_memory` knows: how many keep, and bytes of the process behind some work."""

    lock = threading.Lock()
    keepers = 0
    usual = 0


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory for what is allocated next, and give it back to the system at the end. glibc alone.

    Large blocks otherwise come from the system each time, which fills them with zeros page by page. Work
    that allocates the same again and again, as steps of training do, then needs that once. Call
    :func:`give_back_growth` behind each piece of it.
    """
    _keep(1)
    try:
        yield
    finally:
        _keep(-1)


def _keep(more: int) -> None:
    with _Kept.lock:
        before, _Kept.keepers = _Kept.keepers, _Kept.keepers + more
        kept, libc = _Kept.keepers > 0, _glibc()
        if libc is None or (before > 0) == kept:
            return
        for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1)) if kept else USUAL:
            libc.mallopt(name, value)
        _Kept.usual = 0
        if not kept:
            libc.malloc_trim(ctypes.c_size_t(0))


def give_back_growth() -> None:
    """Give back what :func:`keep_freed_memory` keeps if the process has grown since that was last done."""
    libc = _glibc() if _Kept.keepers else None
    if libc is None:
        return
    with _Kept.lock:
        found = resident_bytes()
        if not _Kept.usual:
            _Kept.usual = found
        elif found > GROWTH * _Kept.usual:
            libc.malloc_trim(ctypes.c_size_t(0))
            _Kept.usual = 0


def resident_bytes() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def _glibc() -> Any:
    """The C library of this process if it is GNU's."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def user_id() -> int | None:
    """Number of the user; None on Windows, whose folders of a user are private."""
    return os.getuid() if hasattr(os, "getuid") else None


def reserve(stream: IO[bytes], begin: int, n_bytes: int) -> bool:
    """Reserve blocks on the disk for ``n_bytes`` of a file from ``begin`` on; False where nothing can.

    Raises:
        OSError: the disk is full.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return False
    try:
        os.posix_fallocate(stream.fileno(), begin, n_bytes)
    except OSError as error:
        if error.errno not in NOT_RESERVING:
            raise
        return False
    return True


def in_own_group() -> dict[str, Any]:
    """Arguments of ``subprocess.Popen`` for a process that :func:`end_group` ends with all it has started."""
    return {"start_new_session": True} if hasattr(os, "killpg") else {}


def end_group(process: subprocess.Popen[Any]) -> None:
    """End a process that was started :func:`in_own_group`, and its children; on Windows the process alone."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def signal_main_thread(number: int) -> None:
    """Send a signal to the main thread, which wakes it where it waits; not on Windows."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(cast(int, threading.main_thread().ident), number)
    else:
        signal.raise_signal(number)


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file against other processes; False if one of them holds it.

    Raises:
        OSError: the file system has no locks, or refuses them.
    """
    held = BlockingIOError if fcntl is not None else PermissionError  # as msvcrt says it
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except held:
        return False
    return True


def unlock(file: IO[bytes]) -> None:
    """Free the lock of :func:`try_lock`."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_UN)
    elif msvcrt is not None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


def system_name() -> str:
    """Name of the system, for messages."""
    return {"win32": "Windows", "darwin": "macOS"}.get(sys.platform, sys.platform)
