"""Where ``biril``, ``biril-export`` and ``python -m biril_nm`` start, so that an interrupt is one line.

Importing the command line takes seconds on a busy machine, and an exception in the middle of it would
pass through whatever is being imported. Nothing has been done by then, so the process ends at once.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

__all__ = ["export_main", "main"]

SIGNAL_EXIT = 128  # and the number of the signal, as shells do
STDERR, LINE = 2, b"stopped by SIGINT\n"


def main() -> None:
    """Entry point of ``biril``."""
    _run("main")


def export_main() -> None:
    """Entry point of ``biril-export``: the same as ``biril export``."""
    _run("export_main")


def _run(entry: str) -> None:
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _end)
    try:
        from biril_nm import cli

        getattr(cli, entry)()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to clean up


def _end(number: int, _: Any) -> None:
    try:
        os.write(STDERR, LINE)
    finally:
        os._exit(SIGNAL_EXIT + number)


if __name__ == "__main__":
    main()
