"""Values that are not spikes: codings of own networks, and advice that works when it is followed."""

from __future__ import annotations

import re

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.coding import Coding
from biril_nm.errors import BirilError, ConfigError, RangeError
from biril_nm.export import lower, to_nir, with_coding
from biril_nm.export.design_rules import check_design
from biril_nm.export.lava.description import describe
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.models import build_model
from biril_nm.parity import check_parity
from biril_nm.testing import assert_parity

N_STEPS, DT = 30, 1e-3
SAMPLE = torch.zeros(1, 12)


def own_net(gain=3.0):
    torch.manual_seed(5)
    make = {"beta": 0.85, "init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    net = nn.Sequential(nn.Linear(12, 24), snn.Leaky(**make), nn.Linear(24, 6), snn.Leaky(**make))
    with torch.no_grad():
        net[0].weight *= gain
        net[2].weight *= 3
    return net


def torch_spikes(net, values):
    for layer in (net[1], net[3]):
        layer.reset_mem()
    with torch.no_grad():
        return np.stack([net(torch.as_tensor(np.asarray(x)).float()).numpy() for x in values])


def agreement(net, coding, messages, values):
    """Share of equal output cells of torch on values and of the integers on messages."""
    graph = lower(to_nir(net, SAMPLE, DT, coding=coding))
    want = torch_spikes(net, values)
    assert 0.02 < want.mean() < 0.9
    got = np.asarray(simulate(graph, messages, record="s")[graph.outputs["output"]].s)
    return float((got == want).mean())


def images(low, high, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (5, 12))


def test_direct_takes_values_and_messages():
    coding, x = Coding("direct", N_STEPS), images(0, 1)
    repeated = np.repeat(x[None], N_STEPS, 0)
    assert agreement(own_net(), coding, coding.encode(x), repeated) > 0.95
    grey = np.rint(x * 255).astype(np.uint8)
    np.testing.assert_array_equal(coding.encode(grey), coding.encode(grey / 255))
    # Without the division of the weights, the network is another one.
    as_counts = Coding("counts", N_STEPS, 8)
    assert agreement(own_net(), as_counts, coding.encode(x), repeated) < 0.9


def test_counts_are_seen_as_they_are():
    x = np.random.default_rng(1).poisson(0.5, (N_STEPS, 5, 12)).clip(0, 7)
    coding = Coding("counts", N_STEPS, 3)
    assert coding.scale == 1 and coding.encode(x).tolist() == x.tolist()
    assert agreement(own_net(), coding, x, x) > 0.95
    assert agreement(own_net(), coding, x, x > 0) < 0.95  # counts matter


def test_signed_images_and_events():
    x = images(-1, 1, 2)
    coding = Coding("signed", N_STEPS, 8)
    messages = coding.encode(x)
    assert messages.min() < -200 and messages.strides[0] == 0
    assert agreement(own_net(1.0), coding, messages, np.repeat(x[None], N_STEPS, 0)) > 0.94
    events = np.random.default_rng(3).integers(-1, 2, (N_STEPS, 5, 12))
    ternary = Coding("signed", N_STEPS, 1)
    assert ternary.encode(events).tolist() == events.tolist()
    assert agreement(own_net(), ternary, events, events) > 0.95
    assert agreement(own_net(), ternary, np.abs(events), events) < 0.95  # the sign matters


@pytest.mark.parametrize("kind", ["direct", "signed"])
def test_values_are_rounded_to_one_bit_too(kind):
    coding, x = Coding(kind, 2, 1), images(-1.0 if kind == "signed" else 0.0, 1.0)
    assert coding.encode(x).tolist() == np.rint(np.stack([x, x])).tolist()
    with pytest.raises(ConfigError, match="whole numbers"):
        Coding("counts", 2, 1).encode(np.full((2, 1, 3), 0.4))


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(4).integers(0, 6, (N_STEPS, 5, 12)),
        np.random.default_rng(4).integers(-2, 3, (N_STEPS, 5, 12)),
        np.random.default_rng(4).uniform(0, 1, (N_STEPS, 5, 12)),
        np.random.default_rng(4).uniform(-1, 0.6, (N_STEPS, 5, 12)),
    ],
    ids=["counts", "below zero", "0..1", "-1..1"],
)
def test_the_advice_of_the_error_works_when_followed(values):
    net = own_net(1.5)
    with pytest.raises(BirilError) as refused:
        simulate(lower(to_nir(net, SAMPLE, DT)), values)
    (call,) = re.findall(r"(?:coding|c) ?= ?(Coding\([^)]*\))", str(refused.value))[:1]
    c = eval(call, {"Coding": Coding})
    x = c.messages(values) if "c.messages(x)" in str(refused.value) else values
    assert agreement(net, c, x, values) > 0.9


def test_the_advice_for_graded_inputs_widens_them():
    graph = lower(to_nir(own_net(), SAMPLE, DT, coding=Coding("counts", 4, 3)))
    for value, advice in (
        (9, "kind='counts', n_steps=4, message_bits=4"),
        (-1, "kind='signed'.*=3"),
    ):
        with pytest.raises(RangeError, match=f"message_bits 3 allows 0 to 7. .*{advice}"):
            simulate(graph, np.full((4, 1, 12), value))


def test_calibration_is_input_too():
    graph = to_nir(own_net(), SAMPLE, DT)
    spikes = (images(0, 1) > 0.6)[None].repeat(4, 0)
    lower(graph, calibration=spikes.astype(float))
    for factor, found in ((3, "from 0 to 3"), (-1, "from -1 to 0"), (0.5, "holds fractions")):
        with pytest.raises(RangeError, match=rf"calibration: [^\n]*\n.*{found}"):
            lower(graph, calibration=spikes * factor)
    signed = to_nir(own_net(), SAMPLE, DT, coding=Coding("signed", 4, 1))
    lower(signed, calibration=-1 * spikes)


def test_parity_takes_a_coding():
    net, x = own_net(), np.random.default_rng(6).integers(0, 4, (N_STEPS, 40, 12))
    coding = Coding("counts", N_STEPS, 2)
    options = {
        "against": ("torch", "sim"),
        "dt_s": DT,
        "min_agreement": 0.8,
        "max_rate_difference": 0.05,
    }
    assert assert_parity(net, x, coding=coding, **options).ok
    with pytest.raises(RangeError, match="from 0 to 3; a binary input allows 0 to 1"):
        assert_parity(net, x, **options)
    grey, direct = images(0, 1)[None].repeat(N_STEPS, 0), Coding("direct", N_STEPS)
    assert assert_parity(own_net(), grey, coding=direct, **options).ok
    graph = lower(to_nir(net, SAMPLE, DT, coding=direct))
    graph = LoihiGraph(graph.nodes, graph.edges)  # which does not say how it was coded
    plain = {"against": ("torch", "sim"), "net": net, "min_agreement": 0.8}
    assert check_parity(graph, grey, coding=direct, **plain).ok
    wrong = check_parity(graph, direct.messages(grey), coding=None, **plain)
    assert not wrong.ok  # torch would see 0..255


def test_a_network_with_a_coding_of_its_own_takes_no_other():
    with pytest.raises(ConfigError, match="the network has its own"):
        to_nir(build_model("mlp"), coding=Coding("signed", 4, 8))


def test_files_take_a_coding_and_keep_it(tmp_path):
    coding = Coding("signed", 7, 5)
    plain = to_nir(own_net(), SAMPLE, DT)
    write_nir(tmp_path / "x.nir", with_coding(plain, coding))
    assert "coding" not in plain.nodes["input"].metadata
    graph = lower(read_nir(tmp_path / "x.nir"))
    assert graph.inputs["input"].signed and graph.metadata["coding"]["input"] == coding.to_dict()
    assert lower(with_coding(plain, {"input": coding})).inputs == graph.inputs
    # The integers in NIR keep the sign, and refuse another coding.
    write_nir(tmp_path / "exact.nir", exact_nir(graph))
    exact = read_nir(tmp_path / "exact.nir")
    assert lower(exact).inputs == graph.inputs
    with pytest.raises(ConfigError, match="holds the integers of a chip"):
        with_coding(exact, coding)
    with pytest.raises(
        ConfigError, match="coding names an input other; expected .* inputs of input"
    ):
        with_coding(plain, {"other": coding})


def test_proofs_cover_both_signs():
    """A row of one sign reaches its bound from below too: the scale must leave room for -1."""
    node = nir.LIF(*(np.full(1, v) for v in (0.02, 1.0, 0.0, 1.0)), metadata={"reset": "zero"})
    weight = np.concatenate([np.full((1, 500), 3.0), np.full((1, 500), -3.0)], axis=1)
    graph = nir.NIRGraph.from_list(nir.Linear(weight), node)
    for coding in (Coding("signed", 3, 8), Coding("counts", 3, 8)):
        lowered = lower(with_coding(graph, coding), dt_s=DT)
        worst = (
            np.sign(weight).astype(int) * coding.largest if coding.signed else (weight > 0) * 255
        )
        u = simulate(lowered, np.broadcast_to(worst, (3, 1, 1000)), record="u")
        (name,) = lowered.neurons
        assert u[name].u.min() > 0 and u[name].u.max() < 1 << 23


def test_a_sign_needs_loihi_2_and_lava():
    coded = with_coding(to_nir(own_net(), SAMPLE, DT), Coding("signed", 4, 4))
    with pytest.raises(
        RangeError, match="message_bits is 4 and a sign.*expected 0 on loihi1.*rate coding"
    ):
        lower(coded, chip="loihi1")
    graph = lower(coded)
    check_design(graph, "loihi2")
    assert describe(graph)[0]["inputs"][0]["signed"] is True


@pytest.mark.parametrize(
    ("text", "coding"),
    [
        ("spikes", Coding("spikes")),
        ("direct:25", Coding("direct", 25)),
        ("signed:40:1", Coding("signed", 40, 1)),
    ],
)
def test_codings_by_name(text, coding):
    assert Coding.parse(text) == coding


@pytest.mark.parametrize(
    "text", ["", "direct:", "direct:x", "direct:1:2:3", "direct:-1", "no:4", "signed:4:17"]
)
def test_codings_of_another_form_are_refused(text):
    with pytest.raises(ConfigError, match="coding '|message_bits is 17"):
        Coding.parse(text)


@pytest.mark.parametrize(
    ("coding", "values", "message"),
    [
        (Coding("direct", 3), np.ones((2, 3), np.int64), "may be values or messages.*uint8"),
        (Coding("direct", 3, 4), np.full((2, 3), 16, np.uint8), "values are 16 to 16; expected 0 to 15 for"),
        (Coding("direct", 3), np.full((2, 3), -0.1), "values are -0.1.* to -0.1.*; expected 0 to 1"),
        (Coding("counts", 3, 4), np.full((3, 2, 3), 16), "values are 16 to 16; expected 0 to 15"),
        (Coding("counts", 3, 4), np.full((3, 2, 3), 0.5), r"hold fractions.*Coding\(kind='direct'"),
        (Coding("signed", 3, 4), np.full((2, 3), 1.1), "values are 1.1.* to 1.1.*; expected -1 to 1"),
        (Coding("signed", 3, 1), np.full((3, 2, 3), -2), "values are -2 to -2; expected -1 to 1"),
        (Coding("spikes", 3), np.full((3, 2, 3), 2), "values are 2 to 2; expected 0 to 1"),
        (Coding("rate", 3), np.full((2, 3), np.nan), "values are nan to nan; expected 0 to 1"),
    ],
)  # fmt: skip
def test_values_that_a_coding_does_not_take_are_refused(coding, values, message):
    with pytest.raises(ConfigError, match=message):
        coding.encode(values)


class Normalised(nn.Module):
    """A network on normalised pictures that takes them as they are, 0..1."""

    def __init__(self, body, mean=0.13, deviation=0.31) -> None:
        super().__init__()
        self.body, self.mean, self.deviation = body, mean, deviation

    def forward(self, x):
        return self.body((x - self.mean) / self.deviation)


def test_mean_and_deviation_fold_into_the_first_layer():
    body, x, coding = own_net(2.0), images(0, 1, 7), Coding("direct", N_STEPS)
    want = torch_spikes(body, np.repeat(((x - 0.13) / 0.31)[None], N_STEPS, 0))
    found = {}
    for name, net in (("folded", Normalised(body)), ("left out", body)):
        graph = lower(to_nir(net, SAMPLE, DT, coding=coding))
        trace = simulate(graph, coding.encode(x), record="s")
        found[name] = float((trace[graph.outputs["output"]].s == want).mean())
    assert len(graph.neurons) == 2
    assert want.mean() > 0.05 and found["folded"] > 0.94 > 0.9 > found["left out"]
