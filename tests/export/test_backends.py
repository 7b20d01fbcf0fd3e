"""The registry of back ends, and what it must not import."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from biril_nm.errors import ConfigError, MissingDependencyError
from biril_nm.export import backends, get_backend
from biril_nm.export.backends import Backend, available_backends, backend
from biril_nm.export.lava.backend import build, run_lava
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons


class Echo:
    """A back end that does nothing."""

    def build(self, graph: LoihiGraph, n_steps: int) -> Any:
        return n_steps

    def write(self, graph: LoihiGraph, path: str | Path, force: bool = False) -> Path:
        return Path(path)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_REGISTRY", dict(backends._REGISTRY))


def small_graph() -> LoihiGraph:
    nodes = {"in": Input((2,)), "fc": Dense([[2, 4]]), "n": Neurons((1,), vth=100)}
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "n")))


def test_lava_is_built_in() -> None:
    assert "lava" in available_backends()
    assert isinstance(get_backend("lava"), Backend)
    assert get_backend("lava") is get_backend("lava")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"back end 'laav' is unknown; known back ends: .*lava"):
        get_backend("laav")


def test_the_decorator_registers() -> None:
    assert backend("echo")(Echo) is Echo
    assert get_backend("echo").build(small_graph(), n_steps=7) == 7
    assert "echo" in available_backends()
    backend("echo")(Echo)  # the same class again, as when a module is reloaded

    class Other(Echo):
        pass

    with pytest.raises(ConfigError, match="'echo' is registered already by Echo"):
        backend("echo")(Other)


def test_entry_points_register(monkeypatch: pytest.MonkeyPatch) -> None:
    points = (
        EntryPoint("echo_ep", f"{__name__}:Echo", backends.ENTRY_POINT_GROUP),
        EntryPoint("wrong_ep", f"{__name__}:small_graph", backends.ENTRY_POINT_GROUP),
    )
    monkeypatch.setattr(backends, "entry_points", lambda group: points)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert {"echo_ep", "wrong_ep", "lava"} <= set(available_backends())
    assert get_backend("echo_ep").write(small_graph(), "x") == Path("x")
    with pytest.raises(ConfigError, match=r"'wrong_ep' .* needed is an object with build\(\)"):
        get_backend("wrong_ep")


def test_missing_lava_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "biril-nm\[lava\]"'):
        build(small_graph(), 3)
    with pytest.raises(MissingDependencyError, match="'lava' is needed to build or run Lava"):
        run_lava(small_graph(), [[[1, 0]]])


@pytest.mark.parametrize(
    "statement",
    [
        "from biril_nm.export import get_backend; get_backend('lava')",
        "import biril_nm.export.lava, biril_nm.export.design_rules",
    ],
)
def test_importing_the_lava_back_end_needs_neither_lava_nor_torch(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(sorted({{'torch', 'lava', 'numba', 'nir'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
