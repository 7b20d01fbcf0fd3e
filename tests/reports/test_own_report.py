"""``bnm.report``: what it says of a network on samples is what the engines give."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import biril_nm as bnm
from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import ConfigError, OutputExistsError
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.reports.layers import limits_section
from biril_nm.reports.pictures import bits_png
from tests.support.command_line import biril, refused
from tests.support.own_nets import Loop, samples

pytest.importorskip("jinja2", reason='needs pip install "biril-nm[report]"')
pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')

SPIKES, LABELS = samples(40)
ENGINES = ("torch", "sim")
N = 12
HTML = "_repr_html_"  # that Jupyter calls


@pytest.fixture(scope="module")
def net():
    return Loop.strong()


@pytest.fixture(scope="module")
def graph(net):
    return lower(to_nir(net, torch.from_numpy(SPIKES).float(), dt_s=1e-3))


@pytest.fixture(scope="module")
def made(graph, net, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "own.html"
    return bnm.report(graph, SPIKES, LABELS, net, out, against=ENGINES, n_samples=N)


def test_the_object_holds_accuracy_and_parity(made, graph, net):
    assert made.accuracy == bnm.accuracy(graph, SPIKES, LABELS)
    assert made.float_accuracy == bnm.accuracy(net, SPIKES, LABELS)
    assert made.parity.ok and made.parity.n_samples == N and made.parity.engines == ENGINES
    assert f"accuracy, integers: {made.accuracy:.2%}" in made.summary()
    assert "predictions equal" in repr(made) and "<table" in getattr(made, HTML)()


def test_layers_are_compared_cell_by_cell(made, graph, net):
    ours = simulate(graph, SPIKES[:, :N], record=("s", "u", "v"))
    theirs = run_torch(net, SPIKES[:, :N])
    assert [fit.name for fit in made.layers] == ["lif1", "lif2"]
    for fit in made.layers:
        a, b = ours[fit.name], theirs[fit.name].s
        assert fit.equal == np.mean(a.s == b) > 0.9
        assert (fit.rate, fit.float_rate) == (a.s.mean(), b.mean())
        assert fit.peaks == {"u": np.abs(a.u).max(), "v": np.abs(a.v).max()}
        assert fit.headroom["v"] == pytest.approx(np.log2(2**23 / fit.peaks["v"]))
        assert (fit.first is None) == (fit.equal == 1)


def test_a_wrong_threshold_is_found_where_it_acts_first(graph, net, tmp_path):
    node = graph.neurons["lif1"]
    wrong = graph.with_node("lif1", vth=2 * np.asarray(node.vth))
    made = bnm.report(wrong, SPIKES, LABELS, net, tmp_path / "r.html", ENGINES, N)
    first = made.layers[0]
    ours = simulate(wrong, SPIKES[:, :N], record=("s",))["lif1"].s
    theirs = run_torch(net, SPIKES[:, :N])["lif1"].s
    step, sample, neuron = first.first
    assert ours[step - 1, sample, neuron] != theirs[step - 1, sample, neuron]
    assert np.array_equal(ours[: step - 1], theirs[: step - 1])
    assert first.equal < 0.99 and not made.parity.ok
    assert f"step {step}, sample {sample}, neuron {neuron}" in made.path.read_text()


def test_confusion_and_worst_samples_follow_from_the_scores(made):
    classes = made.classes
    assert np.array_equal(classes.confusion.sum(axis=1), np.bincount(LABELS, minlength=4))
    assert np.trace(classes.confusion) / 40 == made.accuracy < 1
    wrong = [worst for worst in classes.worst if worst.predicted != worst.label]
    assert len(wrong) == min(8, round(40 * (1 - made.accuracy)))
    margins = [worst.margin for worst in wrong]
    assert margins == sorted(margins) and margins[-1] <= 0
    assert all(worst.label == LABELS[worst.index] for worst in classes.worst)


def test_fewer_bits_cost_more(made):
    assert [each.bits for each in made.bits] == [8, 6, 5, 4, 3, 2]
    errors = [max(each.errors.values()) for each in made.bits]
    assert errors == sorted(errors) and errors[0] < 0.02 < errors[-1]
    assert made.bits[0].same == 1 and made.bits[0].right is not None


@pytest.mark.parametrize("errors", [{"a": [0, 0, 0]}, {"a": [0.1] * 3, "b": [0.1] * 3}])
def test_errors_that_are_all_the_same_are_drawn_without_a_warning(errors):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bits_png((8, 7, 6), errors)


def test_the_page_has_all_parts_and_nothing_from_outside(made):
    text = made.path.read_text(encoding="utf-8")
    for wanted in (
        "Float and integers", "equal cells", "first difference", "Error by bits", "Voltages", "Classes",
        "Saturation and headroom", "Worst samples", "parity of torch, sim", "confusion matrix", "Mapping",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert text.count("data:image/png;base64,") == 6 and "http://" not in text


def test_without_labels_and_a_net_the_rest_is_there(graph, tmp_path):
    made = bnm.report(graph, {"input": SPIKES}, out=tmp_path / "r.html", against=[])
    assert made.accuracy is made.classes is made.parity is None and made.bits == ()
    assert all(fit.equal is None and fit.peaks["v"] > 0 for fit in made.layers)
    text = made.path.read_text()
    assert "Saturation and headroom" in text and "Voltages" in text
    assert "Classes" not in text and "Float and integers" not in text


def test_a_state_at_its_limit_is_named():
    nodes = {
        "in": Input((1,)),
        "fc": Dense([[-254]], weight_exp=7),
        "lif": Neurons((1,), vth=100, du=4095, dv=0),
        "out": Output(),
    }
    graph = LoihiGraph(nodes, tuple(zip(nodes, list(nodes)[1:])))
    from biril_nm.reports.layers import layer_fits

    found = {}
    for n_steps in (2, 9):
        run = simulate(graph, np.ones((n_steps, 1, 1), int), record=("s", "u", "v"))
        fits = layer_fits(graph, run, None)
        found[n_steps] = list(limits_section(graph, fits, "a run").warnings)
    assert found[2] == [] and found[9][0].startswith("lif: v reached its limit. Calibrate")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "r.txt"}, "ends in .html"),
        ({"labels": LABELS[:3]}, "there are 3 labels for 40 samples"),
        ({"labels": LABELS + 1}, "labels are 1 to 4; expected 0 to 3"),
        ({"spikes": SPIKES[:, :0], "labels": None}, "expected one sample or more"),
        ({"spikes": SPIKES[..., :3], "labels": None}, r"has shape \(8, 12, 3\)"),
        ({"spikes": {"x": SPIKES, "y": SPIKES}, "labels": None}, "spikes are given for"),
        ({"against": ("torch", "sim"), "net": None}, "engine 'torch' needs the torch network"),
        ({"against": ("sim", "nothing")}, "engine 'nothing' is unknown"),
        ({"against": ("sim",)}, "cannot compare sim; expected at least two of"),
    ],
    ids=range(9),
)
def test_what_does_not_fit_is_refused_and_nothing_written(graph, tmp_path, change, message):
    given = {"spikes": SPIKES, "labels": LABELS, "out": "r.html", "n_samples": N, **change}
    given["out"] = tmp_path / given["out"]
    with pytest.raises(ConfigError, match=message):
        bnm.report(graph, **given)
    assert not list(tmp_path.iterdir())


def test_a_report_is_not_overwritten(made, graph):
    with pytest.raises(OutputExistsError, match="force"):
        bnm.report(graph, SPIKES, out=made.path, against=[])


def test_the_command_line_writes_the_same_numbers(made, net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bnm.save(net, "model.pt", coding=bnm.Coding("spikes", 8), input_shape=(12,))
    np.savez("x.npz", spikes=SPIKES, labels=LABELS)
    call = (
        "report",
        "model.pt",
        "--architecture",
        "tests.support.own_nets:Loop",
        "--spikes",
        "x.npz",
    )
    done = biril(*call, "--against", "torch,sim")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{made.accuracy:.2%}" in text and "40 samples of x.npz" in text
    assert "the first 20 of 40 samples" in text and "Worst samples" in text
    refused(biril(*call, "--dataset", "digits", "--force"), "--dataset: --spikes holds the samples")
