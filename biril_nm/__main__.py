"""``python -m biril_nm`` is ``biril``."""

from __future__ import annotations

import sys

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells do


def main() -> None:
    """Run ``biril``; an interrupt while its parts are imported ends in one line."""
    try:
        from biril_nm.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything ran\n")
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
