"""Text from files on the terminal: shown as it is, never as markup, links or control characters."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from biril_nm.commands import console
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from tests.support.command_line import biril as in_process

LONG = 5000
COMMANDS = Path(console.__file__).parent
NAMES = [
    "n[/red]",
    "n[bold]x",
    "[link=https://example.org]n",
    ":smile:",
    "[[/]]",
    "a\nb",
    "\x1b]0;x\x07",
    "é",
]


def biril(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "biril_nm", *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


def graph(name: str) -> LoihiGraph:
    nodes = {
        "in": Input((6,)),
        f"fc{name}": Dense(np.full((4, 6), 40)),
        name: Neurons((4,), vth=60, dv=400),
        "out": Output(),
    }
    edges = (("in", f"fc{name}"), (f"fc{name}", name), (name, "out"))
    return LoihiGraph(nodes, edges, {"notes": [f"seen {name}"], "source": name})


@pytest.mark.parametrize("name", NAMES)
def test_tables_show_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(name, ("node", "type"), [(name, "LIF"), (f"{name}2", name)])
    output = capsys.readouterr().out
    escaped = name.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    assert escaped in output
    assert f"{escaped}2" in output
    assert "\x1b" not in output


def test_halves_of_surrogate_pairs_and_reordering_marks_are_escaped() -> None:
    assert console.shown("a\ud800b\u202ec\x9b") == "a\\ud800b\\u202ec\\x9b"
    assert console.shown("two\nlines") == "two\nlines"
    assert console.shown("two\nlines", lines=False) == "two\\nlines"


def test_notes_and_errors_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("node '[/red]' \x1b[2J")
    console.complain("node '[/red]' \x1b[2J")
    console.print_progress("epoch [/red]")
    output = capsys.readouterr().err
    assert output.count("node '[/red]' \\x1b[2J") == 2
    assert "epoch [/red]" in output
    assert "\x1b" not in output


def test_a_line_end_in_a_name_begins_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    console.complain("'a\nerror: b' is wrong:\n  - one\n\nlast")
    console.note("'a\nsim = lava: equal'")
    assert capsys.readouterr().err == (
        "error: 'a\n  error: b' is wrong:\n  - one\n\n  last\nnote 'a\n  sim = lava: equal'\n"
    )


def test_only_the_console_prints() -> None:
    """Everything else would have to escape text from files itself."""
    calls = re.compile(r"\b(print|echo|secho)\(")
    for path in [*COMMANDS.glob("*.py"), COMMANDS.parent / "cli.py"]:
        if path.name != "console.py":
            found = [line for line in path.read_text().splitlines() if calls.search(line)]
            assert not found, f"{path.name}: {found}"


def test_the_command_line_with_names_that_are_markup(tmp_path: Path) -> None:
    name = "n[/red]\x1b[2J é"
    graph(name).save(tmp_path / "g.loihi.npz")
    np.savez(tmp_path / "x.npz", spikes=np.ones((5, 1, 6), np.uint8))
    for words in (
        ("sim", tmp_path / "g.loihi.npz", "--spikes", tmp_path / "x.npz"),
        ("info", tmp_path / "g.loihi.npz"),
        ("export", tmp_path / "g.loihi.npz", "--to", "lava", "-o", tmp_path / "lava"),
    ):
        done = biril(*words, PYTHONIOENCODING="ascii")
        assert done.returncode == 0, done.stderr
        assert "n[/red]\\x1b[2J " in done.stdout, done.stdout
        assert "\x1b" not in done.stdout + done.stderr


def test_names_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "x[bold]\x1b[2J.nir"
    path.write_bytes(b"no HDF5")
    done = biril("info", path)
    assert done.returncode == 1
    assert "x[bold]\\x1b[2J.nir" in done.stderr
    assert "\x1b" not in done.stderr


def test_reports_escape_names(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    from biril_nm.export.report import write_report

    attack = "<script>alert(1)</script>"
    write_report(tmp_path / "r.html", graph(f"{attack}$x^{{$"))
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert attack not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_line_that_no_terminal_shows_is_shortened(capsys):
    console.complain(f"first\n'{'x' * LONG}' is unknown\nlast")
    first, long, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("error: first", "  last")
    assert long.startswith("  'xxx") and long.endswith("x' is unknown") and len(long) < LONG / 2
    assert f"({LONG + 13 - console.MAX_LINE:,} characters)" in long


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"),
    ],
)
def test_exhausted_memory_is_one_line(error, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("biril_nm.commands.info.platform.python_version", fail)
    done = in_process("info")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: out of memory. Use fewer samples")
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        in_process("info")
