"""Steps that belong together, between which a signal that stops the program has to wait.

A lock is taken and noted, a part is removed and its lock is freed: an exception in between would leave files
behind. Compiled code of others that calls Python may lose an exception, or crash. A handler of signals
therefore calls :func:`stop`, which raises at once elsewhere; that of Python, for Ctrl-C, waits as well.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["UNINTERRUPTED", "stop"]


class _State(threading.local):
    """Of each thread; Python runs handlers of signals in the main one."""

    depth = 0
    late: BaseException | None = None


_state = _State()


class _Uninterrupted:
    """Its ``with`` block may stand in another one; what waited is raised behind the outermost."""

    def __enter__(self) -> None:
        _state.depth += 1
        try:
            _replace_handler(signal.default_int_handler, _interrupt)
        except BaseException:
            _state.depth -= 1
            raise

    def __exit__(self, *_: object) -> None:
        _state.depth -= 1
        if _state.depth:
            return
        _replace_handler(_interrupt, signal.default_int_handler)
        late, _state.late = _state.late, None
        if late is not None:
            raise late


UNINTERRUPTED = _Uninterrupted()  # a context; it is for short steps that do not wait for others


def stop(error: BaseException) -> None:
    """Raise what stops the program, behind the open block of :data:`UNINTERRUPTED` if there is one."""
    if not _state.depth:
        raise error
    _state.late = error


def _interrupt(number: int, frame: Any) -> None:
    """What Python does at Ctrl-C, in its time."""
    del number, frame
    stop(KeyboardInterrupt())


def _replace_handler(known: Any, new: Any) -> None:
    """Replace the handler of SIGINT if it is the one that is known; threads besides the main one cannot."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is known:
        signal.signal(signal.SIGINT, new)
