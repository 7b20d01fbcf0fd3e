"""The registry of back ends, and what it must not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biril_nm.errors import ConfigError, MissingDependencyError, OutputExistsError
from biril_nm.export import get_backend
from biril_nm.export.backends import Backend, Target, available_backends, backend, get_target
from biril_nm.export.lava import interpreters
from biril_nm.export.lava.backend import build, run_lava
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from tests.support.third_party import registries_restored, write_package

BUILT_IN = ("nir", "loihi", "lava", "netx")


class Echo:
    """A back end that does nothing."""

    def build(self, graph: LoihiGraph, n_steps: int) -> Any:
        return n_steps

    def write(self, graph: LoihiGraph, path: str | Path, force: bool = False) -> Path:
        return Path(path)


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    with registries_restored():
        yield


def small_graph() -> LoihiGraph:
    nodes = {
        "in": Input((2,)),
        "fc": Dense([[2, 4]]),
        "n": Neurons((1,), vth=100, du=4095, dv=0),
        "out": Output(),
    }
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out")))


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_targets_build_write_and_keep_existing_files(name: str, tmp_path: Path) -> None:
    target, graph = get_target(name), small_graph()
    assert isinstance(get_backend(name), Backend)
    assert get_backend(name) is get_backend(name)
    path = target.check_path(tmp_path / f"x{target.suffix or name}", name, force=False)
    options = {"dt_s": 1e-4} if "dt_s" in target.options else {}
    assert get_backend(name).write(graph, path, **options) == path
    assert path.exists()
    with pytest.raises(OutputExistsError, match="force"):
        get_backend(name).write(graph, path, **options)
    assert get_backend(name).write(graph, path, force=True, **options) == path
    if name != "lava":
        assert get_backend(name).build(graph, 3, **options)


def test_targets_check_the_name_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"output is 'x.txt'; expected a name that ends in .nir with --to nir"
    ):
        get_target("nir").check_path(Path("x.txt"), "nir", force=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OutputExistsError):
        get_target("lava").check_path(tmp_path / "mine", "lava", force=True)


def test_unknown_names_list_the_known_ones() -> None:
    expected = r"back end 'laav' is unknown; expected one of nir, loihi, lava, netx"
    with pytest.raises(ConfigError, match=expected):
        get_backend("laav")


def test_the_decorator_registers() -> None:
    assert backend("echo")(Echo) is Echo
    assert get_backend("echo").build(small_graph(), n_steps=7) == 7
    assert available_backends() == (*BUILT_IN, "echo")
    assert get_target("echo") == Target()
    backend("echo")(Echo)  # the same class again, as when a module is reloaded

    class Other(Echo):
        pass

    with pytest.raises(ConfigError, match="'echo' is registered already by Echo"):
        backend("echo")(Other)
    with pytest.raises(ConfigError, match="'lava' is registered already by biril_nm"):
        backend("lava")(Other)


def test_entry_points_register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "plain" not in available_backends()
    monkeypatch.syspath_prepend(str(write_package(tmp_path)))
    assert {"plain", "text", "not_a_backend", *BUILT_IN} <= set(available_backends())
    assert get_backend("plain").build(small_graph(), 7) == 7
    assert get_target("text").suffix == ".txt"
    with pytest.raises(ConfigError, match=r"'not_a_backend' .* is int; expected an object with"):
        get_backend("not_a_backend")
    with pytest.raises(ConfigError, match=r"'gone' .* cannot be loaded \(AttributeError: .*Repair"):
        get_backend("gone")


def test_missing_lava_names_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(interpreters.platformdirs, "user_data_dir", lambda *_, **__: str(tmp_path))
    monkeypatch.delenv(interpreters.VARIABLE, raising=False)
    way_out = r'pip install "biril-nm\[lava\]"|biril lava-env'
    with pytest.raises(MissingDependencyError, match=way_out):
        build(small_graph(), 3)
    with pytest.raises(MissingDependencyError, match=f"'lava' is needed to run Lava.*({way_out})"):
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
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
