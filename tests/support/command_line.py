"""The command line as the tests call it: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]


def biril(*args: object, program: str = "biril") -> subprocess.CompletedProcess[str]:
    """Run the entry point in this process; ``test_packaging`` runs it in its own."""
    from biril_nm.cli import export_main, main

    out, err = io.StringIO(), io.StringIO()
    argv = [program, *map(str, args)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            (main if program == "biril" else export_main)()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return subprocess.CompletedProcess(argv, int(code), out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit 1, one error on stderr with all words, no traceback, nothing on stdout."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr, f"{word!r} not in {done.stderr!r}"


def process(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    """``biril`` in a process of its own."""
    command = [sys.executable, "-m", "biril_nm", *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, text=True, check=False, **{"capture_output": True, "env": environment, **options}
    )
