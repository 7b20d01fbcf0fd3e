"""Networks built, exported and simulated by other frameworks: our integers behave as their floats.

Each case is built in the framework, exported by the framework's own NIR exporter, written, read,
lowered and run here, and compared layer by layer with the framework's own simulation. Bounds are the share
of equal (step, sample, neuron) cells and the difference of the mean rate in spikes per neuron and step.
What they allow for: 8-bit weights are 0.4 % coarse, decays 1/4096, and a spike that moves by one step
is two cells, which later layers see as other input. Integrators are compared by their membrane.

What the exporters leave out, and how a user says it, is in docs/coming_from.md; each such step is a
function here. Frameworks that are not installed are skipped: ``pip install '.[frameworks]'``.
"""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.export.nir_files.files import read_nir
from biril_nm.hardware_sim import simulate
from biril_nm.loihi import WEIGHT_SHIFT
from tests.support.framework_cases import CASES, DT
from tests.support.nir_interpreter import NirInterpreter


def through_a_file(graph, folder):
    path = folder / "net.nir"
    nir.write(path, graph, compression=None)  # nir 1.0.8 cannot compress scalars
    return read_nir(path)


def differences(case, lowered):
    """Node -> (found difference, allowed difference); layers without spikes are an error."""
    trace = simulate(lowered, case.x, record=("s", "v"))
    found = {}
    for name, (theirs, allowed) in case.layers.items():
        node = case.graph.nodes.get(name)
        if isinstance(node, (nir.LI, nir.I)):
            scale = lowered.metadata["neurons"][name]["scale"] * (1 << WEIGHT_SHIFT)
            error = np.linalg.norm(trace[name].v / scale - theirs) / np.linalg.norm(theirs)
            found[name] = (float(error), allowed)
            continue
        ours = trace[name].s
        assert theirs.sum() > 50 and ours.sum() > 50, name
        assert theirs.mean() < 0.9, name
        found[name] = (float((ours != theirs).mean()), allowed)
        assert abs(ours.mean() - theirs.mean()) <= max(0.002, allowed / 4), name
    return found


def needs(framework):
    pytest.importorskip(framework, reason=f"{framework} is missing: pip install '.[frameworks]'")


@pytest.fixture(params=[(name, build) for name, builds in CASES.items() for build in builds])
def case(request):
    framework, build = request.param
    needs(framework)
    return build()


def test_behaviour_is_that_of_the_framework(case, tmp_path):
    graph = through_a_file(case.graph, tmp_path)
    lowered = lower(graph, dt_s=case.dt, calibration=case.x, reset=case.reset)
    assert set(case.layers) <= set(lowered.neurons)
    for name, (found, allowed) in differences(case, lowered).items():
        assert found <= allowed, (name, found)


def test_the_equations_agree_before_anything_is_rounded(case):
    """The float interpreter and the framework differ by float32 alone: ties at the threshold."""
    graph = plain_graph(case.graph)
    for name, node in graph.nodes.items():
        if name.endswith("w_rec"):  # what snnTorch feeds back is the spikes of the previous step
            node.metadata["lag"] = 1
        if hasattr(node, "v_threshold"):
            node.metadata["reset"] = case.reset
    floats = NirInterpreter(graph, case.dt).run(case.x)
    for name, (theirs, _) in case.layers.items():
        if isinstance(case.graph.nodes.get(name), nir.LI):
            np.testing.assert_allclose(floats[name], theirs, atol=0.01 * np.abs(theirs).max())
        else:
            assert (floats[name] == theirs).mean() > 0.999, name


def test_another_threshold_is_seen(case):
    """Negative twin: the first layer a quarter less excitable breaks its bound."""
    lowered = lower(case.graph, dt_s=case.dt, calibration=case.x, reset=case.reset)
    name = next(iter(case.layers))
    changed = lowered.with_node(name, vth=lowered.neurons[name].vth * 5 // 4)
    with pytest.raises(AssertionError):
        for found, allowed in differences(case, changed).values():
            assert found <= allowed


def test_a_sum_that_the_tracer_loses_is_refused(tmp_path):
    """nirtorch 2.6 follows modules, not ``+``: norse writes a residual network without its last neurons."""
    needs("norse")
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.n1 = nn.Linear(12, 16), norse.IAFCell()
            self.fc2, self.skip, self.n2 = nn.Linear(16, 8), nn.Linear(16, 8), norse.IAFCell()

        def forward(self, x, state=None):
            a, _ = self.n1(self.fc1(x))
            return self.n2(self.fc2(a) + self.skip(a))

    graph = through_a_file(to_nir(Residual(), torch.zeros(12), dt=DT), tmp_path)
    with pytest.raises(
        UnsupportedNodeError, match="reads from n1 -> (fc2|skip); expected a neuron"
    ):
        lower(graph, dt_s=DT, reset="zero")


def test_layers_that_norse_does_not_write_are_named():
    needs("norse")
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    net = norse.SequentialState(
        nn.Conv2d(1, 2, 3), norse.IAFCell(), nn.Flatten(0), nn.Linear(72, 4), norse.IAFCell()
    )
    graph = to_nir(net, torch.zeros(1, 8, 8), dt=DT)
    with pytest.raises(UnsupportedNodeError, match=r"nodes '2' are None, .*Put the NIR node"):
        lower(graph, dt_s=DT, reset="zero")
