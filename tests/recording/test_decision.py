"""How output neurons decide: the same in torch, simulator, Lava bundle, files and command line."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm import cli
from biril_nm.coding import Coding, predictions, readout_scores
from biril_nm.decision import DECISIONS, class_scores
from biril_nm.engines import Network, RunOptions, get_engine
from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.evaluation import evaluate_graph
from biril_nm.evaluation.interval import accuracy_interval
from biril_nm.export import lower, to_nir
from biril_nm.export.lava.bundle import run_lava as runner
from biril_nm.export.lava.description import describe
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi import VTH_SHIFT
from biril_nm.recording import Recording
from biril_nm.recording.readout import decision_of, predict
from biril_nm.training import evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "v0_1_0"
STEPS, BATCH, CLASSES = 8, 40, 5
RANDOM = np.random.default_rng(7)


def wanted(decision, spikes, v_last, threshold):
    """Predictions in exact fractions, class by class."""
    found = []
    for counts, row in zip(spikes.sum(axis=0).tolist(), np.asarray(v_last).tolist()):
        membrane = [Fraction(v) / Fraction(t) for v, t in zip(row, threshold)]
        keys = {
            "count": list(zip(counts, membrane)),
            "score": [c + m for c, m in zip(counts, membrane)],
            "membrane": membrane,
        }[decision]
        found.append(keys.index(max(keys)))
    return found


def undecided_graph(**facts):
    """Weights of both signs: counts, sums and membranes of the output often disagree."""
    weight = RANDOM.integers(-120, 120, (CLASSES, 12)) & ~1
    nodes = {
        "in": Input((12,)),
        "fc": Dense(weight),
        "out": Neurons((CLASSES,), vth=[60, 80, 100, 120, 140], dv=300),
        "end": Output(),
    }
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "out"), ("out", "end")), facts)


GRAPH = undecided_graph()
SPIKES = (RANDOM.random((STEPS, BATCH, 12)) < 0.4).astype(np.int32)
THRESHOLDS = (GRAPH.neurons["out"].spike_threshold << VTH_SHIFT).tolist()


@pytest.fixture(scope="module")
def run():
    return simulate(GRAPH, SPIKES, record=("s", "v"))


@pytest.fixture(scope="module")
def expected(run):
    """Decision -> classes; no two decisions agree on all samples, or nothing is shown."""
    found = {d: wanted(d, run["out"].s, run.v_last["out"], THRESHOLDS) for d in DECISIONS}
    assert len({tuple(classes) for classes in found.values()}) == len(DECISIONS)
    return found


@pytest.mark.parametrize("decision", DECISIONS)
def test_scores_are_in_the_order_of_exact_fractions(decision):
    """Integers of one threshold, with many equal counts and membranes."""
    for vth in (1, 3, 131071):
        spikes = RANDOM.integers(0, 2, (4, 200, 6))
        v_last = RANDOM.choice([-(1 << 23), -64 * vth, -7, 0, 5, 64 * vth - 1], (200, 6))
        exact = wanted(decision, spikes, v_last, [vth << VTH_SHIFT] * 6)
        assert predictions(spikes, v_last, vth, decision).tolist() == exact
        scores = class_scores(decision, spikes, v_last, vth << VTH_SHIFT)
        if decision != "membrane":
            assert (np.abs(scores - spikes.sum(axis=0)) < 1).all() or decision == "score"


def test_a_membrane_far_below_zero_outweighs_spikes_by_score_alone():
    spikes = np.array([[[1, 0]], [[1, 1]], [[1, 0]]])
    v_last = np.array([[-4000, 10]])
    found = {decision: predictions(spikes, v_last, 10, decision)[0] for decision in DECISIONS}
    assert found == {"count": 0, "score": 1, "membrane": 1}
    assert predictions(spikes, v_last, 10)[0] == 0, "count is the default"


def test_without_spikes_the_membrane_decides():
    v_last = np.array([[3, 9, 9, -2]])
    silent = np.zeros((5, 1, 4), np.uint8)
    assert [int(predictions(silent, v_last, 100, d)[0]) for d in DECISIONS] == [1, 1, 1]


def test_a_threshold_of_zero_divides_nothing():
    scores = class_scores("score", np.ones((2, 1, 2), np.uint8), np.array([[-4, 3]]), 0)
    assert scores.tolist() == [[-2.0, 5.0]]


@pytest.mark.parametrize("decision", DECISIONS)
def test_simulator_and_evaluation_decide_alike(decision, run, expected):
    graph = GRAPH.with_metadata(decision=decision)
    assert predict(graph, run).tolist() == expected[decision]
    labels = expected[decision]
    found = evaluate_graph(graph, SPIKES, labels, Coding("spikes"), batch_size=16)
    assert found.accuracy == 1.0
    others = evaluate_graph(GRAPH.with_metadata(decision="count"), SPIKES, labels, Coding("spikes"))
    assert (others.accuracy == 1.0) == (decision == "count")


@pytest.mark.parametrize("decision", DECISIONS)
def test_the_script_of_a_lava_bundle_decides_alike(decision, run, expected, capsys):
    description, arrays = describe(GRAPH.with_metadata(decision=decision))
    traces = {"out": {"s": np.asarray(run["out"].s), "v": np.asarray(run["out"].v)}}
    runner.report(description, arrays, traces, {})
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split(" predicts ")[1].split()[0]) for line in lines] == expected[decision]
    best = expected[decision][0]
    seen = f"{run['out'].s[:, 0, best].sum()} spikes, v {run.v_last['out'][0, best]}"
    assert lines[0] == f"sample 0: out predicts {best} ({decision}: {seen})"


def test_a_recording_in_a_file_decides_alike(run, expected, tmp_path):
    run.save(tmp_path / "r.npz")
    assert predict(GRAPH, Recording.load(tmp_path / "r.npz")).tolist() == expected["count"]
    with pytest.raises(ConfigError, match="holds no v of the readout 'out'; .* Record both"):
        predict(GRAPH, Recording({"out": replace(run["out"], v=None)}))
    with pytest.raises(ConfigError, match="holds no s of the readout 'out'"):
        predict(GRAPH, Recording({}))


# --- torch --------------------------------------------------------------------------------------


def own_module():
    torch.manual_seed(2)
    lif = snn.Leaky(beta=0.95, threshold=0.7, init_hidden=True, reset_mechanism="zero",
                    reset_delay=False)  # fmt: skip
    layer = nn.Linear(12, CLASSES, bias=False)
    layer.weight.data = 6 * (layer.weight.data - layer.weight.data.mean(dim=1, keepdim=True))
    return nn.Sequential(layer, lif)


@pytest.mark.parametrize("decision", DECISIONS)
def test_torch_decides_as_the_integers_do(decision):
    net = own_module()
    graph = lower(to_nir(net, torch.zeros(1, 12)), decision=decision)
    integers = simulate(graph, SPIKES)
    floats = get_engine("torch").run(Network(graph, net), SPIKES, RunOptions(("s",)))
    mem = net[1].mem.detach().double().numpy()
    exact = wanted(decision, floats["1"].s, mem, [float(net[1].threshold)] * CLASSES)
    assert predict(graph, floats).tolist() == exact
    assert (predict(graph, integers) == predict(graph, floats)).mean() > 0.9
    other = DECISIONS[DECISIONS.index(decision) - 1]
    assert (run_torch(net, SPIKES, decision=other).scores.argmax(axis=-1) != exact).any()


def test_a_birilnet_decides_by_score_and_can_be_asked_otherwise():
    net = bnm.build_model("mlp", bnm.ModelConfig(input_shape=(12,), hidden=(9,), n_classes=3), 1)
    x = torch.from_numpy(RANDOM.random((4, 50, 12)).astype(np.float32))
    out = net(x)
    count, membrane = out.spikes.sum(0).tolist(), out.membrane.tolist()
    assert torch.equal(out.decide("score"), out.scores.argmax(-1))
    assert torch.equal(out.decide("membrane"), out.membrane.argmax(-1))
    keys = [list(zip(c, m)) for c, m in zip(count, membrane)]
    assert out.decide("count").tolist() == [row.index(max(row)) for row in keys]
    net.eval()
    x = RANDOM.random((50, 12)).astype(np.float32)
    with torch.no_grad():
        labels = net(net.encode(x)).decide("membrane").numpy()
    assert evaluate(net, [(x, labels)], decision="membrane").accuracy == 1.0
    assert evaluate(net, [(x, labels)]).accuracy < 1.0


# --- files --------------------------------------------------------------------------------------


def test_files_keep_the_decision(tmp_path):
    model = bnm.build_model("mlp", bnm.ModelConfig(hidden=(4,)), 0)
    for source, sample, own in (
        (model, None, "score"),
        (own_module(), torch.zeros(1, 12), "count"),
    ):
        nir_graph = to_nir(source, sample)
        nir.write(tmp_path / f"{own}.nir", nir_graph)
        graph = lower(nir.read(tmp_path / f"{own}.nir"))
        assert decision_of(graph) == own
        assert decision_of(lower(nir_graph, decision="membrane")) == "membrane"
        graph.save(tmp_path / f"{own}.loihi.npz")
        assert decision_of(LoihiGraph.load(tmp_path / f"{own}.loihi.npz")) == own
        for decision in DECISIONS:
            changed = graph.with_metadata(decision=decision)
            assert decision_of(lower(exact_nir(changed))) == decision


def test_a_graph_that_does_not_say_decides_by_count(tmp_path):
    assert decision_of(GRAPH) == "count"
    GRAPH.save(tmp_path / "x.loihi.npz")
    assert decision_of(LoihiGraph.load(tmp_path / "x.loihi.npz")) == "count"
    back = lower(exact_nir(GRAPH, dt_s=1e-3))
    assert decision_of(back) == "count" and back == GRAPH
    foreign = to_nir(own_module(), torch.zeros(1, 12))
    foreign.metadata = {"dt": 1e-4}
    assert decision_of(lower(foreign)) == "count"


def test_files_of_version_0_1_decide_by_score_as_then():
    assert decision_of(LoihiGraph.load(GOLDEN / "chain.loihi.npz")) == "score"
    assert decision_of(lower(nir.read(GOLDEN / "chain.nir"))) == "score"
    old = to_nir(own_module(), torch.zeros(1, 12))
    old.metadata = {"producer": "biril-nm 0.1.0", "dt": 1e-4}
    assert decision_of(lower(old)) == "score"


@pytest.mark.parametrize(
    "ask",
    [
        lambda: lower(to_nir(own_module(), torch.zeros(1, 12)), decision="counts"),
        lambda: decision_of(GRAPH.with_metadata(decision="counts")),
        lambda: predictions(SPIKES, SPIKES[0], 1, "counts"),
        lambda: run_torch(own_module(), SPIKES, decision="counts"),
    ],
    ids=["lower", "metadata", "predictions", "run_torch"],
)
def test_unknown_decisions_are_refused(ask):
    with pytest.raises(ConfigError, match="'counts'; expected one of count, score, membrane"):
        ask()


@pytest.mark.parametrize("decision", ["counts", 3, ["count"]])
def test_unknown_decisions_in_files_are_refused(decision, tmp_path):
    GRAPH.with_metadata(decision=decision).save(tmp_path / "x.loihi.npz")
    with pytest.raises(FileFormatError, match="decision is .*one of count, score, membrane"):
        LoihiGraph.load(tmp_path / "x.loihi.npz")
    written = to_nir(own_module(), torch.zeros(1, 12))
    written.metadata["decision"] = decision
    with pytest.raises(ConfigError, match="'count' or 'score' or 'membrane'"):
        lower(written)


def test_the_old_scores_warn():
    with pytest.warns(DeprecationWarning, match=r"now 'biril_nm\.decision\.class_scores'"):
        assert readout_scores(np.ones((2, 1, 1)), [[3]], 1).tolist() == [[2 * 64 + 3]]


# --- command line -------------------------------------------------------------------------------


def eval_json(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["biril", "eval", *map(str, arguments), "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    text = capsys.readouterr()
    assert not stop.value.code, text.err
    return json.loads(text.out)


def test_the_command_line_takes_a_decision(monkeypatch, capsys):
    common = (GOLDEN / "model.pt", "--dataset", "digits", "--samples", 60)
    for backend in ("torch", "sim"):
        found = {
            decision: eval_json(monkeypatch, capsys, *common, "--backend", backend, *option)
            for decision, option in {
                "score": (),
                "count": ("--decision", "count"),
                "membrane": ("--decision", "membrane"),
            }.items()
        }
        assert all(result["decision"] == decision for decision, result in found.items())
        assert found["score"]["accuracy"] != found["membrane"]["accuracy"]


def test_the_command_line_says_how_it_decided(monkeypatch, capsys):
    call = ["eval", GOLDEN / "model.pt", "--samples", 20, "--decision", "count"]
    monkeypatch.setattr(sys, "argv", ["biril", *map(str, call)])
    with pytest.raises(SystemExit):
        cli.main()
    line = r"accuracy \S+% by count \((\d+) of 20 samples\), 95% interval (\S+)% to (\S+)%, in"
    found = re.search(f"torch: {line}", capsys.readouterr().out)
    assert found is not None
    right, *ends = (float(text) for text in found.groups())
    assert ends == pytest.approx([100 * end for end in accuracy_interval(int(right), 20)], abs=0.06)
