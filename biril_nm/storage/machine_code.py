"""Compiled kernels on disk: kept only where nobody else can put code, since it is loaded and run."""

from __future__ import annotations

import gc
import hashlib
import logging
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numba

from biril_nm.storage.platform import try_lock, unlock, user_id

__all__ = [
    "NO_WRAPPERS",
    "compile_untaken",
    "folder_of",
    "is_kept",
    "is_private",
    "kept",
    "owner_of",
    "part",
]

F = TypeVar("F", bound=Callable[..., Any])

# Of pieces that only compiled functions call: wrappers for Python and C take a quarter of the time.
NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
DIGEST = ".sha256"  # beside each file of machine code
LOCK = ".lock"  # beside the index of a function, of its own and of each list of types
TURN_S = 600.0  # longest wait for a process that compiles the same code; it may be stopped
POLL_S = 0.05
CACHE_PARTS = ("_source_stamp", "_load_index", "_load_data", "_save_data", "_data_path", "save")

log = logging.getLogger(__name__)


def kept(function: F, **options: Any) -> F:
    """Compile a function, and keep its machine code on disk between runs where that is safe.

    numba caches beside the module, or in the user's cache folder. Where neither can be written, or others
    can write it, the code is compiled again in each process. One process compiles a function for the same
    types at a time, and files that are damaged count as missing.
    """
    try:
        compiled = numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba: "no locator available": no folder for the cache
        return cast(F, numba.njit(function, **options))
    folder = folder_of(compiled)
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    known = all(hasattr(index, name) for name in CACHE_PARTS)  # they have no public names
    if folder is None or not is_private(folder) or not known:
        return cast(F, numba.njit(function, **options))
    _compile_damaged_anew(index)
    _compile_in_turn(compiled)
    return cast(F, compiled)


def part(function: F, **options: Any) -> F:
    """Compile a piece that compiled functions alone call; its code is kept with theirs."""
    return cast(F, numba.njit(function, **NO_WRAPPERS, **options))


def folder_of(compiled: Any) -> Path | None:
    """Where numba keeps the code of a function; None if it does not, or does not say so."""
    index = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    path = getattr(index, "_index_path", None)
    return None if path is None else Path(path).parent


def is_kept(compiled: Any, types: tuple[Any, ...]) -> bool | None:
    """Whether the code of a function for arguments of these types is on disk; None if none is kept there."""
    if folder_of(compiled) is None:
        return None
    held: Any = compiled._cache
    try:
        key = held._index_key(types, compiled.targetctx.codegen())
        return key in held._cache_file._load_index()
    except AttributeError:  # they have no public names
        return None


@cache
def is_private(folder: Path) -> bool:
    """Whether nobody can put code there who could not change the sources as well.

    Whoever writes files of the cache runs code as the user who reads them.
    """
    user = user_id()
    if user is None:
        return True
    ours = {user, 0, owner_of(Path(__file__))}
    open_to = stat.S_IWOTH | (0 if _mode(Path(__file__).parent) & stat.S_IWGRP else stat.S_IWGRP)
    private = owner_of(folder) in ours and not _mode(folder) & open_to
    if not private:
        log.warning(
            "the folder of compiled kernels '%s' can be written by others, so kernels are compiled again in "
            "each process; expected a folder that only you can write. Set NUMBA_CACHE_DIR to one",
            folder,
        )
    return private


def _mode(path: Path) -> int:
    return path.stat().st_mode


def owner_of(path: Path) -> int:
    """Number of the user to whom a file or folder belongs."""
    return path.stat().st_uid


def _compile_damaged_anew(index: Any) -> None:
    """Let the files of a cache that are cut off or altered count as missing.

    numba raises what unpickling them raises, and altered machine code would run. So each file ends in its
    digest; what numba wrote without one is compiled again as well.
    """
    read, save, write = index._load_index, index.save, index._save_data
    lock = Path(index._index_path + LOCK)
    path_of, unpickle = index._data_path, index._load_data

    def load_index() -> Any:
        try:
            return read()
        except Exception:  # whatever damaged bytes provoke
            return {}

    def save_data(name: str, data: Any) -> None:
        write(name, data)
        path = path_of(name)
        Path(path + DIGEST).write_bytes(hashlib.sha256(Path(path).read_bytes()).digest())

    def load(name: str) -> Any:
        path = path_of(name)
        if hashlib.sha256(Path(path).read_bytes()).digest() != Path(path + DIGEST).read_bytes():
            raise OSError(f"'{path}' is damaged")  # which numba takes for a missing file
        return unpickle(name)

    def save_if_possible(key: Any, data: Any) -> None:
        # numba reads, changes and writes the index: two at once would give two codes one file.
        with suppress(OSError), _turn(lock):  # a full disk: compiled again in the next process
            save(key, data)

    index._load_index, index.save, index._save_data = load_index, save_if_possible, save_data
    index._load_data = load


def _compile_in_turn(compiled: Any) -> None:
    """Let one process at a time compile a kernel for the same types; others wait and find its code."""
    compile_now = compiled.compile

    def compile_in_turn(signature: Any) -> Any:
        with _turn(_lock_of(compiled, signature)), _no_search_for_garbage():
            return compile_now(signature)

    compiled.compile = compile_in_turn


def _lock_of(compiled: Any, signature: Any) -> Path:
    digest = hashlib.sha256(repr(signature).encode()).hexdigest()[:16]
    return Path(f"{compiled._cache._cache_file._index_path}.{digest}{LOCK}")


def compile_untaken(compiled: Any, types: tuple[Any, ...]) -> None:
    """Compile a function for arguments of these types, unless it is on disk or another process is at it."""
    with ExitStack() as held, _no_search_for_garbage():
        with suppress(OSError):
            file = held.enter_context(_lock_of(compiled, types).open("ab"))
            if not try_lock(file):
                return
            held.callback(unlock, file)
        if not is_kept(compiled, types):
            type(compiled).compile(compiled, types)


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Python would go through all objects of numba many times."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold a lock on a file, where there are locks."""
    with ExitStack() as held:
        with suppress(OSError):  # the folder cannot be written, or its file system has no locks
            file = held.enter_context(path.open("ab"))
            _wait_for(file)
            # A forked child has the file open too, so closing it here would not be enough.
            held.callback(unlock, file)
        yield


def _wait_for(file: IO[bytes]) -> None:
    end = time.monotonic() + TURN_S
    while time.monotonic() < end:
        if try_lock(file):
            return
        time.sleep(POLL_S)
