"""Child processes that tests interrupt and kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOM_S = 600.0  # for a child on a busy machine
PRELOAD = ["biril_nm.hardware_sim", "tests.support.killable", "tests.support.warm_commands"]
# What changes files; each is announced before it happens.
FILE_EVENTS = (
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "tempfile.mkstemp",
)


def environment() -> dict[str, str]:
    """The environment in which a child imports this copy of the project."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def restore_signals() -> None:
    """For ``preexec_fn``: a suite that runs in the background ignores SIGINT, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code (negative: the signal), seconds, file events and stderr."""

    code: int
    seconds: float
    events: int
    errors: str


class Commands:
    """Runs ``biril`` in processes forked from a server that has imported everything.

    Args:
        folder: working folder of the commands; file events below it count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)

    def run(
        self, words: Sequence[object], kill_after_s: float | None = None, kill_at: int | None = None
    ) -> Ending:
        """Run a command to its end, or kill it after some seconds or before a file event."""
        child, began = self._start(words, kill_at)
        child.join(ROOM_S if kill_after_s is None else kill_after_s)
        if child.is_alive():
            child.kill()
        return self._end(child, began)

    def signal(self, words: Sequence[object], number: int, when: Callable[[], bool]) -> Ending:
        """Send a signal to a command once ``when`` is true."""
        child, began = self._start(words, None)
        while not when() and child.is_alive() and time.monotonic() - began < ROOM_S:
            time.sleep(0.02)
        with suppress(ProcessLookupError):  # it has ended, which the caller sees
            os.kill(child.pid, number)
        child.join(ROOM_S)
        return self._end(child, began)

    def _start(self, words: Sequence[object], kill_at: int | None) -> tuple[Any, float]:
        for name in (".stderr", ".events"):
            (self.folder / name).write_text("")
        arguments = ([str(word) for word in words], str(self.folder), kill_at)
        child: Any = self._context.Process(target=_command, args=arguments)
        child.start()
        return child, time.monotonic()

    def _end(self, child: Any, began: float) -> Ending:
        child.join()
        errors, events = ((self.folder / name).read_text() for name in (".stderr", ".events"))
        return Ending(child.exitcode, time.monotonic() - began, int(events or 0), errors)


def _command(words: list[str], folder: str, kill_at: int | None) -> None:
    """In the child: the command line, with its file events counted."""
    os.chdir(folder)
    restore_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(".stderr", "w") as errors:  # noqa: PTH123
        os.dup2(errors.fileno(), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    counted: Callable[[], int] = _count_events(folder, kill_at)
    import torch

    from biril_nm.cli import main

    torch.set_num_threads(1)  # threads that wait for each other take all time of a busy machine
    sys.argv = ["biril", *words]
    try:
        main()
    finally:
        sys.stderr.flush()
        Path(folder, ".events").write_text(str(counted()))


def _count_events(folder: str, kill_at: int | None) -> Callable[[], int]:
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if (
            event not in FILE_EVENTS
            or not args
            or not isinstance(args[0], (str, bytes, os.PathLike))
        ):
            return
        if not os.path.abspath(os.fsdecode(args[0])).startswith(folder + os.sep):  # noqa: PTH100
            return
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count
