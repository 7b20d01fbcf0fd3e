"""``python -m biril_nm`` is ``biril``."""

from __future__ import annotations

from biril_nm.cli import main

if __name__ == "__main__":
    main()
