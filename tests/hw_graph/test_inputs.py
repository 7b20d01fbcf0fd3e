"""Values that an Input carries, and what the message says about others."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.coding import Coding
from biril_nm.engines import Network, get_engine
from biril_nm.errors import ConfigError, RangeError
from biril_nm.evaluation import evaluate_graph
from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.cost.activity import Activity
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph import inputs as module
from biril_nm.hw_graph.inputs import check_inputs, with_input_coding
from biril_nm.hw_graph.plastic import make_plastic
from biril_nm.parity import check_parity


def network(message_bits=0, signed=False, vth=40):
    nodes = {
        "eye": Input((3,), message_bits, signed),
        "w": Dense([[60, -40, 20], [10, 90, -30]]),
        "n": Neurons((2,), vth=vth, dv=500),
        "out": Output(),
    }
    return LoihiGraph(nodes, (("eye", "w"), ("w", "n"), ("n", "out")))


def with_one(value, kind=np.int64, n_steps=6):
    values = np.zeros((n_steps, 2, 3), kind)
    values[n_steps - 2, 1, 2] = value
    return values


ALLOWED = [
    (0, False, 1), (1, False, 1), (5, False, 31), (1, True, -1), (1, True, 1), (5, True, -31),
    (31, False, (1 << 31) - 1), (31, True, 1 - (1 << 31)),
]  # fmt: skip
REFUSED = [
    (0, False, 2), (0, False, -1), (0, False, 255), (0, False, 1 << 40), (1, False, 2), (5, False, 32),
    (5, False, -1), (1, True, 2), (1, True, -2), (5, True, -32), (5, True, 32), (31, True, -(1 << 31)),
]  # fmt: skip


@pytest.mark.parametrize(("bits", "signed", "value"), ALLOWED)
def test_the_ends_of_the_range_are_accepted(bits, signed, value):
    spikes = with_one(value)
    assert check_inputs(network(bits, signed), spikes)["eye"] is spikes


@pytest.mark.parametrize(("bits", "signed", "value"), REFUSED)
@pytest.mark.parametrize("repeated", [False, True])
def test_values_beyond_the_range_are_refused_wherever_they_are(
    bits, signed, value, repeated, monkeypatch
):
    monkeypatch.setattr(module, "BLOCK_BYTES", 50)  # several blocks
    spikes = with_one(value)
    if repeated:
        spikes = np.broadcast_to(spikes[-2], spikes.shape)
    low, high = min(value, 0), max(value, 0)
    with pytest.raises(RangeError, match=f"'eye' has values from {low} to {high}; .* allows"):
        check_inputs(network(bits, signed), spikes)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.uint64])
def test_every_integer_type_is_checked(kind):
    with pytest.raises(RangeError, match="from 0 to 7; a binary input allows 0 to 1"):
        check_inputs(network(), with_one(7, kind))
    assert check_inputs(network(), with_one(1, kind))["eye"].dtype == kind


def test_memory_maps_stay_maps_and_are_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    for value in (1, 2):
        np.save(tmp_path / "x.npy", with_one(value, np.uint8, n_steps=500))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        if value == 1:
            assert np.shares_memory(check_inputs(network(), mapped)["eye"], mapped)
        else:
            with pytest.raises(RangeError, match="from 0 to 2"):
                check_inputs(network(), mapped)


ENTRANCES = {
    "simulate": simulate,
    "simulate, learning": lambda graph, x: simulate(
        make_plastic(graph, "w", "pair"), x, learn=True
    ),
    "check_parity": lambda graph, x: check_parity(graph, x, against=("sim", "sim2")),
    "engine": lambda graph, x: get_engine("sim").run(Network(graph), x),
    "evaluate": lambda graph, x: evaluate_graph(graph, x, [0, 1], Coding("spikes", len(x))),
    "activity": lambda graph, x: Activity.of(graph, simulate(graph, x * 0, record="s"), x),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("factor", [3, -1])
def test_every_entrance_refuses_them(entrance, factor, monkeypatch):
    if entrance == "check_parity":
        engines = {name: get_engine("sim") for name in ("sim", "sim2")}
        monkeypatch.setattr("biril_nm.parity.check.get_engine", engines.get)
    spikes = (np.arange(36).reshape(6, 2, 3) % 2).astype(np.int32)
    with pytest.raises((RangeError, ConfigError), match=str(factor)):
        ENTRANCES[entrance](network(), spikes * factor)


def test_floats_are_sent_to_a_coding_or_cast():
    x = np.linspace(0, 1, 36).reshape(6, 2, 3)
    for values, advice in (
        (np.round(x), r"Cast them with .astype\('int32'\)"),
        (x, r"Coding\(kind='direct', n_steps=6, message_bits=8\)"),
        (x - 0.5, r"Coding\(kind='signed', n_steps=6, message_bits=8\)"),
        (x * 3, r"Scale them: x / 3. Use a coding"),
        (x * np.nan, "Remove what is not finite"),
    ):
        with pytest.raises(ConfigError, match=f"dtype float64; expected integers. .*{advice}"):
            check_inputs(network(), values)


def test_signed_messages_add_with_their_sign():
    graph = network(4, signed=True, vth=10_000)
    u = simulate(graph, np.array([[[-3, 0, 15]]]), record="u")["n"].u
    assert u.ravel().tolist() == [(60 * -3 + 20 * 15) * 64, (10 * -3 - 30 * 15) * 64]


def test_signed_survives_the_file_and_old_files_are_unsigned(tmp_path):
    graph = network(4, signed=True)
    graph.save(tmp_path / "g.loihi.npz")
    assert LoihiGraph.load(tmp_path / "g.loihi.npz").inputs["eye"] == Input((3,), 4, True)
    assert (
        Input.from_arrays({"shape": [3], "message_bits": 4}, {})
        == Input((3,), 4)
        != Input((3,), 4, True)
    )


@pytest.mark.parametrize(("arguments", "message"), [
    (((3,), 0, True), "signed with message_bits 0; expected 1 or more"),
    (((3,), 4, "yes"), "signed is 'yes'; expected True or False"),
])  # fmt: skip
def test_inputs_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Input(*arguments)


def test_a_coding_of_another_width_is_refused():
    graph = network(4)
    assert (
        with_input_coding(graph, Coding("counts", 9, 4)).metadata["coding"]["eye"]["kind"]
        == "counts"
    )
    for coding in (Coding("counts", 9, 3), Coding("signed", 9, 4), Coding("spikes", 9)):
        with pytest.raises(ConfigError, match="Give the coding to to_nir"):
            with_input_coding(graph, coding)
    direct = with_input_coding(graph, Coding("direct", 9, 4))
    with pytest.raises(ConfigError, match="which scales its weights"):
        with_input_coding(direct, Coding("counts", 9, 4))


def test_masked_values_are_refused():
    graph, spikes = network(), np.ones((3, 1, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"is a masked array.*x\.filled\(0\)"):
        simulate(graph, np.ma.masked_array(spikes, spikes > 0))
    simulate(graph, np.ma.masked_array(spikes))  # nothing is masked
