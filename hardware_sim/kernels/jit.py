"""The one place that knows how kernels are compiled and where their code is kept.

Kernels release the GIL, so that plain Python threads run them side by side: no numba threading
layer (TBB, OpenMP, workqueue) is ever started, which keeps forked processes (Lava) and foreign
threads safe. They allocate nothing and return numbers only, so reference counting, which costs
an atomic operation per array and call, is off.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numba
from numba.extending import intrinsic, overload

from biril_nm import compartments, loihi
from biril_nm.storage.machine_code import folder_of, kept
from biril_nm.storage.platform import try_lock, unlock

__all__ = [
    "BoundKernels",
    "choice",
    "clear",
    "inlined",
    "instruction",
    "is_loaded",
    "kernel",
    "part",
]

F = TypeVar("F", bound=Callable[..., Any])

DIGEST = ".sha256"  # beside each file of machine code
LOCK = ".lock"  # beside the index of a kernel
TURN_S = 600.0  # longest wait for a process that compiles the same kernel; it may be stopped
POLL_S = 0.05
CACHE_PARTS = ("_source_stamp", "_load_index", "_load_data", "_save_data", "_data_path", "save")
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
# Python calls kernels only, so parts need no wrappers; compiling those takes a quarter of the time.
PART_OPTIONS: dict[str, Any] = {
    **OPTIONS,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def kernel(function: F) -> F:
    """Compile a loop that Python calls, and keep the machine code on disk between runs.

    :func:`biril_nm.storage.machine_code.kept` says where. Code that could not be told from that of other
    sources is not kept.
    """
    compiled: Any = kept(function, **OPTIONS)
    if folder_of(compiled) is None:
        return cast(F, compiled)
    if not _stamp_with_all_sources(compiled):
        return cast(F, numba.njit(function, **OPTIONS))
    _compile_in_turn(compiled)
    return cast(F, compiled)


class BoundKernels:
    """Kernels called by name, without the look-up of argument types at each call.

    numba needs 17 us to find the types of a link and a node, and 1 us to call. Nothing checks the types
    of later arguments of a name: arrays must keep dtype, dimensions and layout.
    """

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], Callable[..., Any]] = {}

    def call(self, kernel: Callable[..., Any], name: str, *arguments: Any) -> Any:
        """Result of the kernel; ``name`` stands for the types of the arguments."""
        return self.code(kernel, name, *arguments)(*arguments)

    def code(self, kernel: Callable[..., Any], name: str, *arguments: Any) -> Callable[..., Any]:
        """The compiled kernel for arguments of these types."""
        key = (kernel.__name__, name)
        if key not in self._code:
            compiled: Any = kernel
            types = tuple(map(numba.typeof, arguments))
            compiled.compile(types)
            self._code[key] = compiled.overloads[types].entry_point
        return self._code[key]


def is_loaded(function: Any) -> bool:
    """Whether this process has machine code of a kernel."""
    return bool(function.overloads)


def part(function: F) -> F:
    """Compile a piece of kernels; its code is kept with the kernels that use it."""
    return cast(F, numba.njit(function, **PART_OPTIONS))


def inlined(function: F) -> F:
    """A part whose statements are compiled with those of its caller.

    For short loops over many arrays, which take no longer than a call that hands over all of them. numba
    copies the statements, and is slow where many parts become one function.
    """
    return cast(F, numba.njit(function, inline="always", **PART_OPTIONS))


def instruction(function: Callable[..., Any]) -> Any:
    """A piece of kernels in LLVM instructions; callers leave out its first argument, the typing context."""
    return intrinsic(function)


def choice(function: Callable[..., Any]) -> Any:
    """A piece of kernels chosen by ``function``: from the types of the arguments to a plain function.

    The plain function takes arguments of the same names.
    """

    def chosen(*arguments: Any) -> Any:
        raise NotImplementedError  # stands for the piece in compiled code only

    overload(chosen, jit_options=PART_OPTIONS)(function)
    return chosen


def _stamp_with_all_sources(compiled: Any) -> bool:
    """Make the code on disk depend on every file that it comes from.

    numba drops it when the kernel's own file changes, but not when a part or a constant in another file
    does. The stamp has no public name: returns False where it cannot be set, and then nothing is cached.
    """
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if not all(hasattr(index, name) for name in CACHE_PARTS):
        return False
    index._source_stamp = source_digest() + _digest_outside(compiled.py_func)
    _compile_damaged_anew(index)
    return True


def _compile_damaged_anew(index: Any) -> None:
    """Let the files of a cache that are cut off or altered count as missing.

    numba raises what unpickling them raises, and altered machine code would run. So each file ends in its
    digest; what numba wrote without one is compiled anew as well.
    """
    read, save, write = index._load_index, index.save, index._save_data
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
        with suppress(OSError):  # a full disk: compiled again in the next process
            save(key, data)

    index._load_index, index.save, index._save_data = load_index, save_if_possible, save_data
    index._load_data = load


def _compile_in_turn(compiled: Any) -> None:
    """Let one process at a time compile a kernel; those that waited find its code on disk.

    It also keeps the index right: numba reads, changes and writes it, and two processes that do so at once
    give two kernels one file.
    """
    compile_now, lock = compiled.compile, Path(compiled._cache._cache_file._index_path + LOCK)

    def compile_in_turn(signature: Any) -> Any:
        with _turn(lock):
            return compile_now(signature)

    compiled.compile = compile_in_turn


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


@cache
def source_digest() -> str:
    """Digest of all files that kernels are made of."""
    digest = hashlib.sha256()
    kernels = Path(__file__).resolve().parent
    floors = (Path(str(package.__file__)).parent for package in (loihi, compartments))
    for folder in (kernels, *floors):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest_outside(function: Any) -> str:
    """Digest of the file of a kernel that lies elsewhere; empty for those beside this file."""
    path = Path(function.__code__.co_filename).resolve()
    if path.parent == Path(__file__).resolve().parent:
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@part
def clear(row: Any) -> None:
    """Set a vector to 0; numba compiles a loop much faster than a slice assignment."""
    for i in range(row.size):
        row[i] = 0
