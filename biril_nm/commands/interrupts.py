"""Commands that are stopped: SIGINT, SIGTERM and SIGHUP clean up, then one line says what was kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import typer

from biril_nm.commands.console import say
from biril_nm.storage import signals
from biril_nm.storage.platform import signal_main_thread

__all__ = ["Stopped", "check_stopped", "keeping", "stoppable"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

F = TypeVar("F", bound=Callable[..., Any])

WHOLE = "Outputs are written whole or not at all"
NOTHING_KEPT = f"{WHOLE}; this one was not written"
# The shell's exit code of a process that a signal ended, less the signal's number.
SIGNAL_EXIT = 128
AGAIN_S = 0.05  # until a signal is sent again
# Signals that came while the command runs: libraries turn an exception into another one, or go on without it.
_came: list[int] = []


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end."""


def stoppable(command: F) -> F:
    """A command that a signal ends as an exception would, so that its temporary files go.

    A command that keeps something says so with :func:`keeping`.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        _came.clear()
        try:
            with _signals_raise():
                return command(*args, **kwargs)
        except BaseException as error:
            if not _is_stop(error):
                raise
            # A package that is stopped while it is imported may raise something else.
            kept = WHOLE
            if isinstance(error, KeyboardInterrupt):
                kept = error.args[0] if error.args else NOTHING_KEPT
            number = _came[0] if _came else signal.SIGINT
            say(f"stopped by {signal.Signals(number).name}. {kept}", err=True)
            raise typer.Exit(SIGNAL_EXIT + number) from None

    return cast(F, run)


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Put a sentence about what is kept into the ``args`` of the KeyboardInterrupt that stops this block."""
    try:
        yield
    except BaseException as error:
        if not _is_stop(error):
            raise
        raise Stopped(kept()) from error


def check_stopped() -> None:
    """Raise again what stopped the command, if it goes on all the same."""
    if _came:
        raise Stopped


def _is_stop(error: BaseException) -> bool:
    return bool(_came) or isinstance(error, KeyboardInterrupt)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let signals raise :class:`Stopped` and note them, unless the caller ignores them (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() == owner:
            _came.append(number)
            signals.stop(Stopped())
            return
        signal.signal(number, signal.SIG_DFL)  # a forked worker ends as it always did
        os.kill(os.getpid(), number)

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, stop)
    try:
        with _dropped_are_sent_again():
            yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def _dropped_are_sent_again() -> Iterator[None]:
    """Python drops what is raised in a ``__del__`` or as a weak reference ends: send that signal again."""
    show, timers = sys.unraisablehook, list[threading.Timer]()

    def dropped(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            show(unraisable)
            return
        timers.append(threading.Timer(AGAIN_S, signal_main_thread, (_came[-1],)))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = show
        for timer in timers:
            timer.cancel()
