"""Child processes that tests interrupt and kill."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def environment() -> dict[str, str]:
    """The environment in which a child imports this copy of the project."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def restore_signals() -> None:
    """For ``preexec_fn``: a suite that runs in the background ignores SIGINT, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
