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

F = TypeVar("F", bound=Callable[..., Any])

NOTHING_KEPT = "Outputs are written whole or not at all; this one was not written"
# The shell's exit code of a process that a signal ended, less the signal's number.
SIGNAL_EXIT = 128


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end; ``number`` says which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def stoppable(command: F) -> F:
    """A command that a signal ends as an exception would, so that its temporary files go.

    A command that keeps something puts a sentence about it into the ``args`` of the KeyboardInterrupt.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            with _signals_raise():
                return command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
            kept = stop.args[0] if stop.args else NOTHING_KEPT
            say(f"stopped by {signal.Signals(number).name}. {kept}", err=True)
            raise typer.Exit(SIGNAL_EXIT + number) from None

    return cast(F, run)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Stopped`, unless the caller ignores them (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a forked worker ends as it always did
        os.kill(os.getpid(), number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
