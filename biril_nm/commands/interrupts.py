"""Commands that are stopped: SIGINT, SIGTERM and SIGHUP clean up, then one line says what was kept."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import typer

from biril_nm.commands.console import say

__all__ = ["Stopped", "stoppable"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

F = TypeVar("F", bound=Callable[..., Any])

WHOLE = "Outputs are written whole or not at all"
NOTHING_KEPT = f"{WHOLE}; this one was not written"
# The shell's exit code of a process that a signal ended, less the signal's number.
SIGNAL_EXIT = 128


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end."""


def stoppable(command: F) -> F:
    """A command that a signal ends as an exception would, so that its temporary files go.

    A command that keeps something puts a sentence about it into the ``args`` of the KeyboardInterrupt.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        came: list[int] = []
        try:
            with _signals_raise(came):
                return command(*args, **kwargs)
        except BaseException as error:
            if not came and not isinstance(error, KeyboardInterrupt):
                raise
            # A package that is stopped while it is imported may raise something else.
            kept = WHOLE
            if isinstance(error, KeyboardInterrupt):
                kept = error.args[0] if error.args else NOTHING_KEPT
            number = came[0] if came else signal.SIGINT
            say(f"stopped by {signal.Signals(number).name}. {kept}", err=True)
            raise typer.Exit(SIGNAL_EXIT + number) from None

    return cast(F, run)


@contextmanager
def _signals_raise(came: list[int]) -> Iterator[None]:
    """Let signals raise :class:`Stopped` and note them, unless the caller ignores them (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() == owner:
            came.append(number)
            raise Stopped
        signal.signal(number, signal.SIG_DFL)  # a forked worker ends as it always did
        os.kill(os.getpid(), number)

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
