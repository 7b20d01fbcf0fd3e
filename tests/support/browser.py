"""Pages as headless Chromium shows them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

__all__ = ["browse", "needs_browser"]

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: apt-get install chromium"
)


def browse(page, folder, width, height, *wanted):
    """What headless Chromium prints; it gets a profile of its own and no network services."""
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},{height}",
    )  # fmt: skip
    call = [CHROMIUM, *flags, *wanted, page.as_uri()]
    done = subprocess.run(call, check=True, capture_output=True, timeout=600)
    return done.stdout.decode("utf-8")
