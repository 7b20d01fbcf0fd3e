"""What is mended in Lava (lava-nc 0.10.0): newer versions of Python and NumPy, and a lost wake-up.

lava-nc 0.10.0 declares Python 3.10 and NumPy 1. Two spots of it stop newer ones, and neither computes
anything; import this before Lava:

* ``lava.magma.compiler.var_model`` has dataclass instances as defaults of dataclass fields, which Python 3.11
  takes only if they are hashable. So its dataclasses are made with ``unsafe_hash=True``.
* ``ReshapePort`` passes ``newshape`` to ``np.reshape``, which later versions of NumPy call ``shape``.

On any version a process may wait for ever, on a machine that is busy: the thread of a channel looks whether
the channel was empty (or full), adds an item (or frees a place), and only then wakes the process that waits
for one of several channels; if that has taken the item before in between, nobody wakes it.
:func:`mend_channels` wakes it each time, and it looks again.

The first two change nothing where Lava is imported already, or not installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import sys
from typing import Any

import numpy as np

__all__ = ["mend", "mend_channels", "mended"]

VAR_MODEL = "lava.magma.compiler.var_model"
PORTS = "lava.magma.core.process.ports.ports"
CHANNELS = "lava.magma.compiler.channels.pypychannel"
HASHABLE_DEFAULTS = (3, 11)  # Python from which defaults of dataclass fields must be hashable
SHAPE_ARGUMENT = (2, 1)  # NumPy from which reshape calls the argument "shape"


def mended() -> tuple[str, ...]:
    """What has to be mended here, for reports."""
    found = []
    if sys.version_info >= HASHABLE_DEFAULTS:
        found.append("dataclass defaults")
    if _numpy_version() >= SHAPE_ARGUMENT:
        found.append("np.reshape(newshape=)")
    return tuple(found)


def mend() -> None:
    """Import the parts of Lava that newer Pythons and NumPys stop at, mended."""
    if VAR_MODEL in sys.modules or not mended() or importlib.util.find_spec("lava") is None:
        return
    plain = dataclasses.dataclass

    def hashable(cls: Any = None, /, **options: Any) -> Any:
        if cls is None:
            return functools.partial(hashable, **options)
        if cls.__module__ == VAR_MODEL:
            options["unsafe_hash"] = True
        return plain(cls, **options)

    dataclasses.dataclass = hashable  # type: ignore[assignment]
    try:
        importlib.import_module(VAR_MODEL)
        port = importlib.import_module(PORTS).ReshapePort
    finally:
        dataclasses.dataclass = plain
    if _numpy_version() >= SHAPE_ARGUMENT:
        port.get_transform_func_fwd = lambda self: functools.partial(np.reshape, shape=self.shape)
        port.get_transform_func_bwd = lambda self: functools.partial(
            np.reshape, shape=self.old_shape
        )


def mend_channels() -> None:
    """Wake processes that wait for one of several channels whenever a channel has changed."""
    channels = importlib.import_module(CHANNELS)
    channels.CspRecvPort._req_callback = _received
    channels.CspSendPort._ack_callback = _acknowledged


def _received(port: Any, requests: Any) -> None:
    """Thread of a port that receives: an item for each request."""
    with contextlib.suppress(EOFError):
        while requests.acquire() and not port._done:
            port._queue.put_nowait(0)
            _wake(port)


def _acknowledged(port: Any, acknowledgements: Any) -> None:
    """Thread of a port that sends: a free place for each item that was received."""
    with contextlib.suppress(EOFError):
        while acknowledgements.acquire() and not port._done:
            port._semaphore.release()
            _wake(port)


def _wake(port: Any) -> None:
    observer = port.observer  # which the process takes away once it has found something
    if observer is not None:
        observer()


def _numpy_version() -> tuple[int, ...]:
    return tuple(int(part) for part in np.__version__.split(".")[:2])


mend()
