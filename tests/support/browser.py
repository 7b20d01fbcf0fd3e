"""Pages as headless Chromium shows them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

__all__ = ["browse", "needs_browser", "probe"]

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


def probe(page, folder, width, script):
    """What a function of JavaScript returns in a page that is ``width`` pixels wide.

    The page is in a frame, since windows of Chromium are never narrower than 500 pixels.
    """
    call = f"parent.postMessage(JSON.stringify((() => {{{script}}})()), '*')"
    copy = page.with_name(f"probe_{page.name}")
    text = page.read_text(encoding="utf-8")
    assert "</body>" in text
    copy.write_text(
        text.replace("</body>", f"<script>addEventListener('load', () => {call})</script></body>"),
        encoding="utf-8",
    )
    outer = folder / "frame.html"
    outer.write_text(
        f'<iframe src="{copy.as_uri()}" style="width: {width}px; height: 900px; border: 0"></iframe>'
        "<script>addEventListener('message', e => document.title = e.data)</script>",
        encoding="utf-8",
    )
    shown = browse(outer, folder, width + 100, 1000, "--dump-dom", "--virtual-time-budget=10000")
    copy.unlink()
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", shown)[1]))
