"""Pictures for .net files whose input layer has neurons, and sums in u of a last layer with bias."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.errors import ConfigError, RangeError
from biril_nm.export import read_netx, with_input_bias
from biril_nm.export.design_rules import check_design, warnings
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import Recording, joined
from tests.support.command_line import biril, refused
from tests.support.netx_cases import CASES, even
from tests.support.netx_runs import dense, neuron, write_file

SHAPE = (2, 3, 4)


@pytest.fixture
def eyes(tmp_path):
    """A file like PilotNet's: input neurons of shape (C, H, W), a convolution behind them."""
    r = np.random.default_rng(6)
    return write_file(tmp_path / "eyes.net", [
        {"type": "input", "shape": list(SHAPE), "weight": 38, "bias": -3, "neuron": neuron(4095, 300, 20)},
        {"type": "conv", "shape": [3, 3, 4], "weight": even(r, (3, 2, 3, 3)), "stride": 1, "padding": 1,
         "dilation": 1, "groups": 1, "neuron": neuron()},
    ])  # fmt: skip


def pictures(n=3):
    return np.random.default_rng(7).uniform(-0.875, 1.0, (n, *SHAPE))


def test_the_bias_of_each_neuron_is_the_picture(eyes):
    graph, picture = read_netx(eyes), pictures(1)[0]
    first = next(iter(graph.neurons))
    node = with_input_bias(graph, picture).neurons[first]
    want = np.array([int(38 * float(x) - 3) for x in picture.ravel()]).reshape(SHAPE)
    np.testing.assert_array_equal(node.bias_mant, want)
    assert node.bias_exp == 6 and want.min() < 0 < want.max()
    assert graph.neurons[first].bias_mant.ndim == 0  # the graph itself stays as it was


def test_whole_numbers_are_the_same_as_graded_spikes(eyes):
    graph = read_netx(eyes, input_message_bits=3)
    whole = np.random.default_rng(8).integers(0, 8, SHAPE)
    sent = simulate(graph, np.broadcast_to(whole, (9, 1, *SHAPE)), record="s,v")
    silence = np.zeros((9, 1, *SHAPE), dtype=int)
    held = simulate(with_input_bias(graph, whole), silence, record="s,v")
    other = simulate(with_input_bias(graph, whole[..., ::-1]), silence, record="s,v")
    for name in graph.neurons:
        for variable in ("s", "v"):
            np.testing.assert_array_equal(
                getattr(held[name], variable), getattr(sent[name], variable)
            )
    last = list(graph.neurons)[-1]
    assert held.n_spikes[last] > 0
    assert not np.array_equal(other[last].v, held[last].v)


@pytest.mark.parametrize(("picture", "error", "expected"), [
    (np.zeros((1, *SHAPE)), ConfigError, r"shape \(1, 2, 3, 4\) .*expected numbers of shape \(2, 3, 4\)"),
    (np.full(SHAPE, "a"), ConfigError, "picture is .*expected an array of numbers"),
    (np.full(SHAPE, 200.0), RangeError, "bias of the input neurons is 7597 to 7597 .*expected -4095 to 4"),
    (np.full(SHAPE, np.nan), RangeError, "bias of the input neurons is nan"),
])  # fmt: skip
def test_pictures_that_do_not_fit(eyes, picture, error, expected):
    with pytest.raises(error, match=expected):
        with_input_bias(read_netx(eyes), picture)


def test_graphs_without_such_a_layer(tmp_path):
    path = write_file(tmp_path / "x.net", [{"type": "input", "shape": [3]}, dense()])
    with pytest.raises(ConfigError, match="no input layer with neurons.*Pass spikes"):
        with_input_bias(read_netx(path), np.zeros(3))


# --- command line ----------------------------------------------------------------------------------


def test_each_sample_sets_its_bias(eyes, tmp_path):
    read_netx(eyes).save(tmp_path / "eyes.loihi.npz")
    np.savez(tmp_path / "p.npz", pictures=pictures())
    call = ("sim", tmp_path / "eyes.loihi.npz", "--pictures", tmp_path / "p.npz", "--record", "s,v")
    done = biril(*call, "--steps", "7", "-o", tmp_path / "run.npz")
    assert done.returncode == 0, done.stderr
    found = Recording.load(tmp_path / "run.npz")
    graph = LoihiGraph.load(tmp_path / "eyes.loihi.npz")
    last = list(graph.neurons)[-1]
    assert found[last].v.shape == (7, 3, 3, 3, 4) and found.meta["batch"] == 3
    silence = np.zeros((7, 1, *SHAPE), dtype=int)
    for index, picture in enumerate(pictures()):
        alone = simulate(with_input_bias(graph, picture), silence, record="s,v")
        np.testing.assert_array_equal(found[last].v[:, index], alone[last].v[:, 0])
    assert not np.array_equal(found[last].v[:, 0], found[last].v[:, 1])


def test_options_that_contradict_each_other(eyes, tmp_path):
    graph = tmp_path / "eyes.loihi.npz"
    read_netx(eyes).save(graph)
    np.savez(tmp_path / "p.npz", images=pictures())
    np.save(tmp_path / "s.npy", np.zeros((4, 1, *SHAPE), np.uint8))
    given = ("--pictures", tmp_path / "p.npz")
    both = biril("sim", graph, *given, "--spikes", tmp_path / "s.npy")
    assert both.returncode == 2 and "--spikes and --pictures" in both.stderr
    assert biril("sim", graph).returncode == 2
    refused(biril("sim", graph, *given), "arrays ['images']", "'pictures' of shape (batch, *shape)")
    refused(
        biril("sim", graph, *given, "--record-to", tmp_path / "f"),
        "Leave out --learn and --record-to",
    )
    refused(
        biril("sim", graph, "--spikes", tmp_path / "s.npy", "--steps", "3"),
        "--steps has no meaning",
    )


# --- joined recordings -----------------------------------------------------------------------------


def test_joined_recordings_count_all_samples(eyes):
    graph = read_netx(eyes)
    silence = np.zeros((6, 1, *SHAPE), dtype=int)
    runs = [simulate(with_input_bias(graph, p), silence, record="s") for p in pictures()]
    whole, last = joined(runs), list(graph.neurons)[-1]
    assert whole.n_spikes[last] == sum(run.n_spikes[last] for run in runs) > 0
    assert whole.v_last[last].shape[0] == 3
    with pytest.raises(ConfigError, match="there are 0 recordings"):
        joined([])
    with pytest.raises(ConfigError, match="other nodes or variables"):
        joined([runs[0], simulate(graph, silence, record="v")])


# --- a last layer without neurons and with a bias ---------------------------------------------------


def test_sums_in_u_are_accepted_with_a_caution(tmp_path):
    layers, _ = CASES["integrator_with_bias"](np.random.default_rng(4))
    graph = read_netx(write_file(tmp_path / "x.net", layers))
    check_design(graph)
    (caution,) = [str(w) for w in warnings(graph) if "du is -1" in str(w)]
    assert "Lava runs it exactly" in caution and "leave the bias of the last layer out" in caution


@pytest.mark.parametrize("change", [{"dv": 300}, {"vth": 60}], ids=str)
def test_other_neurons_need_a_register_for_du(tmp_path, change):
    layers, _ = CASES["integrator_with_bias"](np.random.default_rng(4))
    graph = read_netx(write_file(tmp_path / "x.net", layers))
    (name,) = graph.neurons
    with pytest.raises(RangeError, match="du is -1 .*expected 0 to 4095"):
        check_design(graph.with_node(name, **change))
