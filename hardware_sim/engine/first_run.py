"""A line in the log while kernels compile, so that nobody takes the first run on a machine for a hang."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from biril_nm.hardware_sim.kernels.jit import is_loaded

__all__ = ["said_while_compiling"]

logger = logging.getLogger(__name__)

SILENT_S = 1.0  # compiled code is read from disk in much less


@contextmanager
def said_while_compiling(*kernels: Any) -> Iterator[None]:
    """Say so after a second in which none of the kernels has been ready."""
    if any(map(is_loaded, kernels)):
        yield
        return

    def say() -> None:
        if not any(map(is_loaded, kernels)):
            logger.warning("compiling the kernels, once on this machine; this takes up to a minute")

    timer = Timer(SILENT_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
