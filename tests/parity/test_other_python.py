"""Lava in another interpreter gives what it gives here; without Lava nothing is a dead end."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from biril_nm.commands import lava_env
from biril_nm.engines import get_engine
from biril_nm.errors import ConfigError, MissingDependencyError
from biril_nm.export.lava import interpreters, run_lava
from biril_nm.export.lava.bundle import lava_compat
from biril_nm.export.lava.bundle.run_lava import IMPORTED
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.models import ModelConfig, build_model, save
from biril_nm.parity import check_parity
from tests.support.command_line import biril, refused
from tests.support.random_learning import random_input, random_network


def small_graph():
    random = np.random.default_rng(0)
    nodes = {
        "in": Input((6,)),
        "fc": Dense(2 * random.integers(-40, 60, (5, 6))),
        "n": Neurons((5,), vth=90, dv=300),
        "rec": Dense(2 * random.integers(-40, 40, (5, 5))),
        "out": Output(),
    }
    edges = (("in", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "out"))
    return LoihiGraph(nodes, edges), (random.random((9, 3, 6)) < 0.5).astype(int)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No Lava here, and none remembered."""
    monkeypatch.delenv(interpreters.VARIABLE, raising=False)
    monkeypatch.setattr(interpreters, "lava_is_here", lambda: False)
    monkeypatch.setattr(interpreters.platformdirs, "user_data_dir", lambda *_, **__: str(tmp_path))


@pytest.mark.lava
def test_another_python_computes_the_same(monkeypatch):
    graph, x = small_graph()
    here = run_lava(graph, x)
    monkeypatch.setenv(interpreters.VARIABLE, sys.executable)
    there = run_lava(graph, x)
    assert "another process" in there.meta["version"] and "another" not in here.meta["version"]
    for key in ("s", "u", "v"):
        assert np.array_equal(getattr(there["n"], key), getattr(here["n"], key))
        assert np.array_equal(
            getattr(there.chip_time()["n"], key), getattr(here.chip_time()["n"], key)
        )
    found = check_parity(graph, x, ("sim", "lava"))
    assert found.ok and f"Python {sys.version.split()[0]}" in found.versions["lava"]
    assert found.versions["lava"] in found.summary()
    wrong = graph.with_node("n", vth=60)
    assert not np.array_equal(run_lava(wrong, x)["n"].v, here["n"].v)


@pytest.mark.lava
def test_learning_in_another_python_is_the_same(monkeypatch):
    graph = random_network(3)
    x = random_input(graph, 12, 2, 3)
    here = run_lava(graph, x, learn=True, record=("s", "w", "x1"))
    monkeypatch.setenv(interpreters.VARIABLE, sys.executable)
    there = run_lava(graph, x, learn=True, record=("s", "w", "x1"))
    for name in graph.plastic:
        assert np.array_equal(there.connections[name].w, here.connections[name].w)
        for field in ("weight", "tag_t", "tag_d"):
            one, other = (getattr(run.graph.nodes[name], field) for run in (here, there))
            one, other = (getattr(a, "data", a) if field == "weight" else a for a in (one, other))
            assert np.array_equal(np.asarray(one), np.asarray(other)), field


def test_a_run_that_fails_elsewhere_says_why(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && echo \'{"python": "3.1", "numpy": "2", "lava": "0"}\' && exit 0\n'
        "echo 'the Lava process raised' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv(interpreters.VARIABLE, str(program))
    graph, x = small_graph()
    with pytest.raises(Exception, match="the run on Lava failed: the Lava process raised"):
        run_lava(graph, x)


@pytest.mark.parametrize(("text", "message"), [
    ("/no/such/python", "which is not a program"),
    ("/bin/true", "does not have lava-nc and numpy"),
    ("/bin/ls", "does not have lava-nc and numpy"),
])  # fmt: skip
def test_a_python_without_lava_is_named(text, message, monkeypatch):
    monkeypatch.setenv(interpreters.VARIABLE, text)
    with pytest.raises(ConfigError, match=message):
        interpreters.find_interpreter()
    assert message in str(get_engine("lava").why_not())


def test_what_a_program_answers_is_bounded(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' '['\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match="does not have lava-nc and numpy"):
        interpreters.probe(str(program))


def test_what_was_remembered_is_used_and_may_be_gone(nowhere, tmp_path):
    with pytest.raises(MissingDependencyError, match="package 'lava' is needed"):
        interpreters.find_interpreter()
    interpreters.remember(tmp_path / "gone")
    with pytest.raises(
        MissingDependencyError, match="the one that it made: .*'.*gone', which is not a program"
    ):
        interpreters.find_interpreter()


@pytest.mark.lava
def test_a_remembered_python_is_found(nowhere):
    interpreters.remember(sys.executable)
    assert interpreters.find_interpreter().path == sys.executable


@pytest.mark.parametrize("command", ["parity", "report"])
def test_without_lava_the_commands_go_on_and_say_so(command, nowhere, tmp_path):
    save(build_model("mlp", ModelConfig(hidden=(8,)), 0), tmp_path / "model.pt")
    words = [command, tmp_path / "model.pt", "--samples", 2]
    done = biril(*words)
    assert done.returncode == 0, done.stderr
    assert "lava is left out: package 'lava' is needed" in done.stderr.replace("\n", " ")
    refused(
        biril(*words, "--require-lava", *(["--force"] if command == "report" else [])),
        "'lava' is needed",
    )
    refused(
        biril(*words, "--against", "sim,torch", "--require-lava", "--force"[:0] or "--seed", 1),
        "lava",
    )


def test_lava_env_refuses_what_is_no_python(tmp_path):
    refused(
        biril("lava-env", "--python", tmp_path / "x", "--out", tmp_path / "env"),
        "which is not a program",
    )
    refused(
        biril("lava-env", "--python", "/bin/true", "--out", tmp_path / "env"),
        "does not run as a Python",
    )
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    refused(biril("lava-env", "--out", tmp_path / "kept"), "exists already")
    refused(biril("lava-env", "--out", tmp_path / "kept", "--force"), "is not an environment")
    assert (tmp_path / "kept" / "file").is_file() and not (tmp_path / "env").exists()


@pytest.mark.lava
def test_lava_that_is_here_is_left_as_it_is(monkeypatch):
    def refuse(command, **_):
        raise AssertionError(command)

    monkeypatch.setattr(lava_env.subprocess, "run", refuse)
    monkeypatch.setattr(
        interpreters, "probe", lambda path: interpreters.Interpreter(path, "3", "2", "0")
    )
    done = biril("lava-env", "--here")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "lava-nc 0 (Python 3, NumPy 2)\n"


@pytest.mark.parametrize(("version", "installs"), [
    ((3, 10), [["lava-nc==0.10.0", "numpy<2"]]),
    ((3, 13), [list(IMPORTED), ["--no-deps", "--ignore-requires-python", "lava-nc==0.10.0"]]),
])  # fmt: skip
def test_lava_comes_beside_biril_where_pip_refuses_it(version, installs, nowhere, monkeypatch):
    calls = []

    def run(command, **_):
        calls.append(command)

    monkeypatch.setattr(lava_env.subprocess, "run", run)
    monkeypatch.setattr(lava_env, "sys", SimpleNamespace(version_info=version, executable="this"))
    monkeypatch.setattr(
        interpreters, "probe", lambda path: interpreters.Interpreter(path, "3", "2", "0")
    )
    done = biril("lava-env", "--here", "--json")
    assert '"python": "this"' in done.stdout, done.stderr
    assert [call[:4] for call in calls] == [["this", "-m", "pip", "install"]] * len(installs)
    assert [call[6:] for call in calls] == installs


@pytest.mark.parametrize("words", [("--python", sys.executable), ("--out", "x"), ("--force",)])
def test_here_stands_alone(words):
    refused(
        biril("lava-env", "--here", *words), f"--here is given with {words[0]}; expected it alone"
    )


def test_a_failed_installation_says_why(nowhere, monkeypatch):
    monkeypatch.setattr(
        lava_env, "sys", SimpleNamespace(version_info=(3, 12), executable="/bin/false")
    )
    done = biril("lava-env", "--here")
    assert done.returncode == 1 and "error: -m pip install --quiet ... failed" in done.stderr


def test_what_is_mended_depends_on_the_versions(monkeypatch):
    monkeypatch.setattr(lava_compat.sys, "version_info", (3, 10, 13))
    monkeypatch.setattr(lava_compat.np, "__version__", "1.26.4")
    assert lava_compat.mended() == ()
    monkeypatch.setattr(lava_compat.sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(lava_compat.np, "__version__", "2.5.5")
    assert lava_compat.mended() == ("dataclass defaults", "np.reshape(newshape=)")


def test_the_bundle_takes_the_module_along():
    from biril_nm.export.lava.bundle_files import SCRIPTS

    assert "lava_compat.py" in SCRIPTS
    assert (Path(lava_compat.__file__).parent / "lava_network.py").read_text().index(
        "lava_compat"
    ) > 0
