"""A neuron of one's own is one file and one line: the toy is found in every target, with its numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.compartments import register, unregister
from biril_nm.compartments.table import models_page
from biril_nm.errors import ConfigError, FileFormatError, RangeError, UnsupportedNodeError
from biril_nm.evaluation.accuracy import predict
from biril_nm.export import get_backend, lower, write_netx
from biril_nm.export.design_rules import check_design
from biril_nm.export.lava import run_lava
from biril_nm.export.nir_files import read_nir, write_nir
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.hardware_sim import map_to_chip, simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rules import PAIR
from biril_nm.recording import Recording
from biril_nm.reports.making import report
from tests.support import toy_compartment

STEPS, BATCH = 14, 3
BLOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("biril_nm", "tests", "numba", "torch", "nir"):
            raise ImportError("blocked for the test: " + name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(autouse=True)
def toy():
    yield register(toy_compartment.TOY, toy_compartment.__name__, replace=True)
    unregister("toy_lif")


def graph(model: str = "toy_lif", **registers: Any) -> LoihiGraph:
    rng = np.random.default_rng(5)
    own = {"vth": [30, 25, 20, 35, 28], "du": 2000, "dv": 300, "bias_mant": 3, "bias_exp": 2}
    own |= {"gain": [700, 0, 300, 500, 900]} if model == "toy_lif" else {}
    nodes = {
        "in": Input((6,)),
        "w1": Dense(2 * rng.integers(-20, 40, (5, 6)), weight_exp=2),
        "own": Neurons((5,), model=model, **{**own, **registers}),
        "w2": Dense(2 * rng.integers(-20, 40, (3, 5)), weight_exp=2),
        "last": Neurons((3,), vth=[20, 30, 40], dv=100),
        "out": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)))


def with_loop(slack: int) -> LoihiGraph:
    """The same with a loop, whose delay makes late spikes, so that populations rest between samples."""
    plain = graph()
    nodes = {**plain.nodes, "loop": Dense(np.eye(5, dtype=int) * 6, weight_exp=3, delay=slack)}
    return LoihiGraph(nodes, (*plain.edges, ("own", "loop"), ("loop", "own")))


def spatial() -> LoihiGraph:
    """A convolution into neurons of the toy, whose neurons the simulator orders channels last."""
    rng = np.random.default_rng(8)
    nodes = {
        "in": Input((2, 5, 4), message_bits=3),
        "w1": Conv(2 * rng.integers(-20, 40, (3, 2, 3, 3)), padding=1),
        "own": Neurons(
            (3, 5, 4), 9 + np.arange(60).reshape(3, 5, 4) % 11, model="toy_lif", gain=400
        ),
        "w2": Dense(2 * rng.integers(-20, 40, (3, 60)), weight_exp=1),
        "last": Neurons((3,), vth=30, dv=100, model="toy_lif"),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)))


def spikes() -> Any:
    return (np.random.default_rng(6).random((STEPS, BATCH, 6)) < 0.5).astype(np.uint8)


def cell(inputs: list[int], vth: int, gain: int) -> list[tuple[int, int, int]]:
    """(s, u, v) per step of one toy neuron of ``graph``, in plain integers."""
    u = v = count = 0
    rows = []
    for a in inputs:
        u = (abs(u) * (4096 - 2001) // 4096) * (1 if u >= 0 else -1) + a * 64
        v = (abs(v) * (4096 - 300) // 4096) * (1 if v >= 0 else -1) + u + 3 * 4
        s = int(v > 2 * vth * 64 + gain * count)
        count += s
        v = 0 if s else v
        rows.append((s, u, v))
    return rows


def reference(net: LoihiGraph, x: Any) -> Any:
    """(s, u, v) of the toy population, (3, n_steps, batch, 5)."""
    weight = net.nodes["w1"].weight
    found = np.zeros((3, STEPS, BATCH, 5), dtype=int)
    for b in range(BATCH):
        for i in range(5):
            inputs = [4 * sum(int(w) for w, s in zip(weight[i], row) if s) for row in x[:, b]]
            rows = cell(inputs, int(net.nodes["own"].vth[i]), int(net.nodes["own"].gain[i]))
            found[:, :, b, i] = np.array(rows).T
    return found


def test_the_simulator_equals_a_scalar_reference_of_plain_integers():
    trace = simulate(graph(), spikes(), record=("s", "u", "v"))
    for variable, wanted in zip("suv", reference(graph(), spikes())):
        assert_array_equal(getattr(trace["own"], variable), wanted)
    assert 0 < trace.n_spikes["own"] < STEPS * BATCH * 5
    assert trace.n_spikes["last"] > 0


def test_it_is_not_cuba_lif_and_its_further_state_counts():
    mine = simulate(graph(), spikes(), record=("s",))["own"].s
    assert (simulate(graph("cuba_lif"), spikes(), record=("s",))["own"].s != mine).any()
    assert (simulate(graph(gain=0), spikes(), record=("s",))["own"].s != mine).any()


def test_shared_registers_and_threads_give_the_same():
    shared = graph(vth=30, gain=700)
    full = shared.with_node("own", vth=np.full(5, 30), gain=np.full(5, 700))
    runs = [simulate(g, spikes(), n_threads=n)["own"].s for g in (shared, full) for n in (1, 2)]
    for other in runs[1:]:
        assert_array_equal(other, runs[0])
    assert runs[0].any()


@pytest.mark.lava
@pytest.mark.parametrize("net", [graph, spatial, lambda: with_loop(0), lambda: with_loop(3)])
def test_lava_and_the_simulator_agree_in_node_time_and_chip_time(net):
    shape = net().nodes["in"].shape
    high = 1 << net().nodes["in"].message_bits or 2
    x = np.random.default_rng(9).integers(0, max(high, 2), (STEPS, BATCH, *shape))
    sim = simulate(net(), x, record=("s", "u", "v"))
    lava = run_lava(net(), x)
    for name in net().neurons:
        for variable in "suv":
            assert_array_equal(getattr(sim[name], variable), getattr(lava[name], variable))
            assert_array_equal(
                getattr(sim.chip_time()[name], variable), getattr(lava.chip_time()[name], variable)
            )
        assert sim.n_spikes[name] > 0
    wrong = simulate(net().with_node("own", gain=2047), x, record=("s",))
    assert (np.asarray(wrong["own"].s) != np.asarray(lava["own"].s)).any()


@pytest.mark.lava
def test_a_bundle_defines_the_neuron_without_biril_nm(tmp_path):
    folder = Path(get_backend("lava").write(graph(), tmp_path / "bundle", spikes=spikes()))
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(BLOCKER)
    done = subprocess.run(
        [sys.executable, str(folder / "run_lava.py"), "--out", str(tmp_path / "x.npz")],
        env={**os.environ, "PYTHONPATH": str(hook)},
        cwd=hook, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    sim = simulate(graph(), spikes())
    for name in graph().neurons:
        assert_array_equal(Recording.load(tmp_path / "x.npz")[name].s, sim[name].s)
    best = [line.split(" predicts ")[1].split()[0] for line in done.stdout.splitlines()[:BATCH]]
    assert list(map(int, best)) == predict(graph(), sim).tolist()
    assert "toy_lif" in (folder / "README.txt").read_text()


def test_files_keep_model_and_registers(tmp_path):
    path = tmp_path / "x.loihi.npz"
    graph().save(path)
    found = LoihiGraph.load(path)
    assert found == graph() != graph("cuba_lif")
    assert found.nodes["own"].gain.tolist() == [700, 0, 300, 500, 900]
    unregister("toy_lif")
    with pytest.raises(
        FileFormatError, match="'toy_lif', which is not registered; expected one of cuba_lif"
    ):
        LoihiGraph.load(path)


@pytest.mark.parametrize("net", [graph, spatial])
def test_exact_nir_files_keep_every_integer(tmp_path, net):
    path = tmp_path / "x.nir"
    write_nir(path, exact_nir(net(), dt_s=1e-3))
    assert lower(read_nir(path)) == net()
    changed = read_nir(path)
    changed.nodes["own"].v_threshold = changed.nodes["own"].v_threshold + 1
    with pytest.raises(
        UnsupportedNodeError, match="'own'.*'toy_lif', and numbers of the file were ch"
    ):
        lower(changed)
    unregister("toy_lif")
    with pytest.raises(ConfigError, match="'toy_lif' is unknown; expected one of cuba_lif"):
        lower(read_nir(path))


def test_tables_and_docs_show_it():
    text = graph().summary()
    assert "toy_lif" in text and "gain" in text.splitlines()[2] and "0..900" in text
    page = models_page()
    assert "CUBA-LIF with twice the threshold" in page and "its layers have one threshold" in page
    assert "| `toy_lif` | `gain` | 0 | 2047 | 0 | yes | growth of the threshold per spike |" in page


def test_the_report_shows_its_registers_limits_and_cores(tmp_path):
    pytest.importorskip("jinja2", reason='needs pip install "biril-nm[report]"')
    pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')
    made = report(graph(), spikes(), out=tmp_path / "x.html", against=[])
    assert [layer.name for layer in made.layers] == ["own", "last"]
    text = made.path.read_text(encoding="utf-8")
    for shown in ("toy_lif", ">gain</th>", "0..900", "fits loihi2: 1 of"):
        assert shown in text, shown
    other = report(graph("cuba_lif"), spikes(), out=tmp_path / "other.html", against=[])
    assert "gain" not in other.path.read_text(encoding="utf-8")


def test_limits_chips_and_netx_are_refused_by_name(tmp_path):
    check_design(graph(), "loihi2")
    with pytest.raises(
        RangeError, match=r"'own': gain is 2048 \(1 of 5 values\); expected 0 to 2047"
    ):
        check_design(graph(gain=[2048, 0, 0, 0, 0]), "loihi2")
    with pytest.raises(RangeError, match=r"'own': vth is -1 .*expected 0 to 131071"):
        check_design(graph(vth=-1), "loihi2")
    with pytest.raises(RangeError, match="'toy_lif' does not run on loihi1; expected cuba_lif"):
        check_design(graph(), "loihi1")
    with pytest.raises(
        UnsupportedNodeError, match="'own': has the compartment model 'toy_lif'.*one threshold"
    ):
        write_netx(graph(), tmp_path / "x.net")


def test_it_is_mapped_and_measured():
    assert (
        map_to_chip(graph(), "loihi2").summary()
        == map_to_chip(graph("cuba_lif"), "loihi2").summary()
    )


def test_wrong_registers_are_refused_by_name():
    with pytest.raises(
        ConfigError, match="'toy_lif' has no register tau; its registers are vth, du"
    ):
        Neurons((3,), model="toy_lif", vth=1, tau=3)
    with pytest.raises(ConfigError, match="'cuba_lif' has no register gain"):
        Neurons((3,), vth=1, gain=3)
    with pytest.raises(ConfigError, match="'toy_lif' needs a value for vth"):
        Neurons((3,), model="toy_lif")
    with pytest.raises(ConfigError, match="'toi' is unknown; expected one of cuba_lif, .*toy_lif"):
        Neurons((3,), model="toi", vth=1)


@pytest.mark.lava
@pytest.mark.slow  # compiles learning for its step
def test_it_takes_part_in_learning():
    """A connection into its neurons learns; those of the source and the loop behind are CUBA-LIF."""
    rule = replace(PAIR, t_epoch=2)
    net = with_loop(0)
    plastic = net.with_node("w1", rule=rule).with_node("loop", rule=rule)
    trace = simulate(plastic, spikes(), record=("s", "u", "v", "w"), learn=True)
    lava = run_lava(plastic, spikes(), record=("s", "u", "v", "w"), learn=True)
    for variable in "suv":
        assert_array_equal(getattr(trace["own"], variable), getattr(lava["own"], variable))
    for name in ("w1", "loop"):
        assert_array_equal(trace.connections[name].w, lava.connections[name].w)
    assert (trace.graph.nodes["w1"].weight != plastic.nodes["w1"].weight).any()
    assert 0 < trace.n_spikes["own"] < STEPS * BATCH * 5
