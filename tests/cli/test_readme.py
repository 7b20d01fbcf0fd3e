"""README and examples do what they say."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

import biril_nm as bnm
from biril_nm.data import load_data

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert README.count("\n") <= 130


@pytest.mark.lava
def test_quick_start_runs(tmp_path, monkeypatch):
    block = re.search(r"## Quick start\n\n```python\n(.*?)```", README, re.S).group(1)
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "model.pt").is_file()
    assert (tmp_path / "lava_bundle" / "run_lava.py").is_file()


PAGES = [
    ROOT / "README.md",
    *(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "reference"),
]
LINE = re.compile(r"^(?: {4})?(biril [a-z-]+(?: .*)?)$", re.MULTILINE)
INLINE = re.compile(r"`(biril [a-z-]+[^`]*)`")


def words_of(line: str) -> list[str]:
    """The words of a command, up to a comment or another command."""
    words = shlex.split(line, comments=True)
    ends = [i for i, word in enumerate(words) if word in ("&&", "|", ">", ";")]
    return words[: min(ends, default=len(words))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_pages_exist(page):
    assert not wrong_commands(page.read_text(encoding="utf-8"))


def test_wrong_commands_are_found():
    text = "see `biril sing`\n    biril info --loud\nbiril sim\nbiril eval x.nir --workers two  # two\n"
    assert [line.partition(":")[0] for line in wrong_commands(text)] == [
        "biril eval x.nir --workers two  # two", "biril info --loud", "biril sim", "biril sing"
    ]  # fmt: skip


def wrong_commands(text: str) -> list[str]:
    """Those that do not parse, of whole lines; or, within sentences, that have options of no command."""
    from typer import BadParameter
    from typer.main import get_command

    from biril_nm.cli import app

    known, wrong = get_command(app).commands, []
    for line in {*LINE.findall(text), *INLINE.findall(text)}:
        _, name, *rest = words_of(line)
        command = known.get(name)
        options = {o for p in getattr(command, "params", ()) for o in (*p.opts, *p.secondary_opts)}
        used = {word for word in rest if re.fullmatch(r"-{1,2}[a-z][a-z-]*", word)} - {"--help"}
        if command is None or not used <= options:
            wrong.append(line)
        elif line in LINE.findall(text):
            try:
                command.make_context(name, rest)
            except BadParameter.__base__ as error:  # any wrong use
                wrong.append(f"{line}: {error}")
    return sorted(wrong)


# What is not here is run without options.
OPTIONS = {
    "make_digits.py": ("--epochs", "1", "--out", "small.pt"),
    "cartpole.py": ("--episodes", "2"),
    "onchip_adaptation.py": ("--quick", "--model", "model.pt", "--shifts", "dead", "--test", "60"),
    "onchip_readout.py": ("--quick", "--model", "model.pt", "--samples", "200"),
    "own_module.py": ("--quick",),
    "stdp_features.py": ("--quick", "--seeds", "1"),
    "train_mnist.py": ("--quick",),
}
NEEDED = {"cartpole.py": "gymnasium"}
LONG = ("stdp_features.py", "onchip_adaptation.py")
ELSEWHERE = ("own_problem.py",)  # runs in test_own_problem.py
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 90
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.lava
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=pytest.mark.slow) if path.name in LONG else path.name
        for path in EXAMPLES
        if not path.name.startswith("test_") and path.name not in ELSEWHERE
    ],
)
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip(
        NEEDED.get(name, "numpy"), reason='pip install "biril-nm[control]" brings it'
    )
    data = load_data("digits")
    net = bnm.build_model("convnet", bnm.ModelConfig(input_shape=data.input_shape), seed=0)
    bnm.save(net, tmp_path / "model.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr(sys, "argv", [name, *OPTIONS.get(name, ())])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert capsys.readouterr().out or name == "onchip_networks.py"  # which the other two share


@pytest.mark.lava
def test_the_example_of_a_test_passes():
    example = runpy.run_path(str(ROOT / "examples" / "test_my_network.py"))
    (test,) = (value for name, value in example.items() if name.startswith("test_"))
    test(example["net"].__wrapped__())
