# ruff: noqa: E402
"""``run_lava.py --hardware``: refused without lava-loihi, and its order of calls with models of the CPU."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.version_info[:2] != (3, 10):  # there it must not be missing
    pytest.importorskip("lava.magma", reason="needs lava-nc (make venv)")
pytestmark = pytest.mark.lava

from biril_nm.export.lava.bundle import lava_compat

lava_compat.mend()  # on Python 3.11 and later before Lava

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.utils import loihi

from biril_nm.export import get_backend
from biril_nm.export.lava.bundle.lava_hardware import objections, predictions, run_on_hardware
from biril_nm.export.lava.bundle.lava_network import LavaNetwork
from biril_nm.export.lava.bundle.run_lava import chip_input, chip_rows, node_time
from biril_nm.export.lava.description import describe
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output


class Adapter(AbstractProcess):
    """Stands for the adapters of lava-loihi: passes spikes on."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape=shape)
        self.inp, self.out = InPort(shape=shape), OutPort(shape=shape)


@implements(proc=Adapter, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAdapter(PyLoihiProcessModel):
    """On the CPU."""

    inp: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        """One step."""
        self.out.send(self.inp.recv())


def graph(model: str = "cuba_lif") -> LoihiGraph:
    nodes = {
        "input": Input((4,)),
        "fc": Dense(2 * np.random.default_rng(0).integers(-20, 60, (3, 4))),
        "lif": Neurons((3,), model=model, vth=60, dv=400),
        "output": Output(),
    }
    return LoihiGraph(nodes, (("input", "fc"), ("fc", "lif"), ("lif", "output")))


@pytest.fixture()
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if lava-loihi were there."""
    spike = types.SimpleNamespace(PyToNxAdapter=Adapter, NxToPyAdapter=Adapter)
    package = types.ModuleType("lava.proc.embedded_io")
    package.spike = spike  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lava.proc.embedded_io", package)
    monkeypatch.setattr("lava.proc.embedded_io", package, raising=False)
    monkeypatch.setattr(loihi, "is_installed", lambda: True)


def network(of: LoihiGraph, n_steps: int) -> Any:
    return LavaNetwork(*describe(of), n_steps)


@pytest.mark.usefixtures("installed")
def test_its_spikes_are_those_of_the_simulator() -> None:
    n_steps, batch = 6, 3
    spikes = (np.random.default_rng(1).random((n_steps, batch, 4)) < 0.4).astype(np.int32)
    net = network(graph(), n_steps)
    assert objections(net, learn=False) == []
    n_rows = chip_rows(net.description, n_steps, batch)
    given = {"input": chip_input(spikes, net.period, n_rows)}
    model = net.fixed_point_config().exception_proc_model_map[net]
    config = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map={net: model})
    rows = run_on_hardware(net, given, n_rows, config)["lif"]
    latency = net.description["neurons"][0]["latency"]
    found = node_time(rows, latency, net.period, n_steps, batch)
    expected = simulate(graph(), spikes)["lif"].s
    assert expected.any()
    np.testing.assert_array_equal(found, expected)
    best = expected.sum(axis=0).argmax(axis=-1)
    lines = predictions({"lif": {"s": found}}).splitlines()
    assert lines == [
        f"sample {i}: lif predicts {b} (count, on Loihi 2)" for i, b in enumerate(best)
    ]


@pytest.mark.usefixtures("installed")
def test_processes_of_the_cpu_are_named() -> None:
    found = objections(network(graph("cuba_lif_subtract"), 4), learn=True)
    assert any(
        "Compartments have models for the CPU alone; expected LIF, Dense" in f for f in found
    )
    assert any("Leave --learn out" in text for text in found)


def test_without_lava_loihi_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    spikes = np.ones((4, 2, 4), np.int32)
    folder = Path(get_backend("lava").write(graph(), tmp_path / "b", spikes=spikes))  # type: ignore[call-arg]
    spec = importlib.util.spec_from_file_location("run_lava_of_bundle", folder / "run_lava.py")
    assert spec is not None and spec.loader is not None
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    try:
        runner = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(runner)
        monkeypatch.setattr(sys, "argv", ["run_lava.py", "--hardware"])
        assert runner.main() == 1
    finally:
        for name in set(sys.modules) - before:
            if name.startswith(("lava_", "decision", "clearing", "biril_neurons")):
                del sys.modules[name]
    err = capsys.readouterr().err
    assert "--hardware: Intel's lava-loihi is not installed; expected it" in err
    assert "Leave --hardware out to run on the CPU" in err
