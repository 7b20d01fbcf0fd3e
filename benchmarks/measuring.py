"""What the benchmarks measure with: calls in turn, medians with ranges, memory, processes of their own."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

T = TypeVar("T")
HERE = Path(__file__).resolve()
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# OpenBLAS set to another processor is slow, and NumPy's figures would be those of that.
UNWANTED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Measured:
    """Median and range of repetitions."""

    middle: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Measured:
        """From repetitions."""
        return Measured(median(values), min(values), max(values))

    def text(self, unit: float = 1.0, digits: int = 1) -> str:
        """``median [low-high]`` in ``unit``."""
        a, b, c = (f"{x / unit:,.{digits}f}" for x in (self.middle, self.low, self.high))
        return f"{a} [{b}-{c}]"


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call in each round; a first call of each, which compiles, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            began = clock()
            call()
            seconds[name].append(clock() - began)
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> Measured:
    """Pair by pair."""
    return Measured.of([a / b for a, b in zip(above, below)])


def installed(name: str) -> bool:
    """Whether a package is there."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


# --- memory ---------------------------------------------------------------------------------------


def peak_kib() -> float:
    """Peak resident memory of this program; ru_maxrss would include the parent's before exec."""
    found = _of_status("VmHWM")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if found is None else found)


def resident_kib() -> float:
    """Memory that the process has now; its peak where the system does not say."""
    found = _of_status("VmRSS")
    return peak_kib() if found is None else found


def give_back_memory() -> None:
    """Return freed memory to the system where that can be asked for: its next use counts as new."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _of_status(name: str) -> float | None:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(line.split()[1]) for line in lines if line.startswith(name)), None)


@dataclass(frozen=True)
class Costs:
    """What a piece of work took.

    Attributes:
        wall: seconds.
        cpu: seconds of the processor.
        mib: highest resident memory above that before.
    """

    wall: float
    cpu: float
    mib: float


def costs(work: Callable[[], T]) -> tuple[Costs, T]:
    """The costs, and what the work gave."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        with suppress(OSError):
            clear.write_text("5")  # the peak starts anew from what is resident now
    before = resident_kib()
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    return Costs(*spent, max(0.0, peak_kib() - before) / 1024), found


# --- processes ------------------------------------------------------------------------------------


def in_child(function: Callable[..., Any], *arguments: Any, **environment: str) -> Any:
    """What a function of a module in this folder returns in a new process; plain data both ways.

    The memory that it takes is that of its process alone.
    """
    module = Path(inspect.getfile(function)).stem
    settings = {k: v for k, v in os.environ.items() if k not in UNWANTED} | environment
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        call = [sys.executable, str(HERE), str(answer), module, function.__name__]
        done = subprocess.run(
            [*call, json.dumps(arguments)], env=settings, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode or not answer.exists():
            raise SystemExit(f"{module}.{function.__name__} ended with exit code {done.returncode}")
        return json.loads(answer.read_text(encoding="utf-8"))


def _answer(path: str, module: str, function: str, arguments: str) -> None:
    found = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    Path(path).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _answer(*sys.argv[1:])
