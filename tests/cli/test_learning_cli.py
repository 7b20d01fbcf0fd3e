"""Plastic layers from the command line: export, learn, compare, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rules import PAIR, RULES
from biril_nm.recording import Recording
from tests.support.command_line import biril


@pytest.fixture
def graph_file(tmp_path):
    r = np.random.default_rng(0)
    graph = LoihiGraph(
        {
            "in": Input((1, 6, 5)),
            "conv": Conv(2 * r.integers(-20, 40, (3, 1, 3, 2)), stride=(2, 1), padding=1),
            "n1": Neurons((3, 3, 6), vth=90, dv=200),
            "fc2": Dense(2 * r.integers(-20, 40, (4, 54))),
            "n2": Neurons((4,), vth=500, dv=100),
            "out": Output(),
        },
        (("in", "conv"), ("conv", "n1"), ("n1", "fc2"), ("fc2", "n2"), ("n2", "out")),
    )
    graph.save(tmp_path / "g.loihi.npz")
    spikes = (r.random((9, 2, 1, 6, 5)) < 0.4).astype(np.uint8)
    np.savez(tmp_path / "x.npz", spikes=spikes)
    return tmp_path / "g.loihi.npz"


def done(*args):
    result = biril(*args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*args):
    result = biril(*args)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_export_learn_and_evaluate_the_learned_graph(graph_file, tmp_path):
    plastic, learned, out = (tmp_path / n for n in ("p.loihi.npz", "l.loihi.npz", "t.npz"))
    done("export", graph_file, "--to", "loihi", "-o", plastic, "--plastic", "fc2=pair")
    text = done(
        "sim", plastic, "--spikes", tmp_path / "x.npz", "--learn", "--learned-out", learned,
        "-o", out, "--record", "s,w,x1",
    )  # fmt: skip
    assert "fc2: " in text and "weights changed" in text
    graph = LoihiGraph.load(plastic)
    assert graph.plastic["fc2"].rule == PAIR
    spikes = np.load(tmp_path / "x.npz")["spikes"]
    run = simulate(graph, spikes, record="s,w,x1", learn=True)
    assert LoihiGraph.load(learned) == run.graph
    assert run.graph != graph
    assert_array_equal(Recording.load(out).connections["fc2"].w, run.connections["fc2"].w)
    done("sim", learned, "--spikes", tmp_path / "x.npz")


def test_an_unrolled_convolution_is_the_same_network_and_the_report_says_so(graph_file, tmp_path):
    plastic = tmp_path / "p.loihi.npz"
    text = done(
        "export", graph_file, "--to", "loihi", "-o", plastic, "--plastic", "conv=offset", "--unroll"
    )
    assert "conv learns: LearningRule('offset'" in text
    assert "every position learns its own kernel" in text
    graph, before = LoihiGraph.load(plastic), LoihiGraph.load(graph_file)
    assert isinstance(graph.nodes["conv"], Sparse)
    spikes = np.load(tmp_path / "x.npz")["spikes"]
    assert_array_equal(
        simulate(graph, spikes, record="v")["n2"].v, simulate(before, spikes, record="v")["n2"].v
    )
    assert "Pass --unroll" in refused(
        "export",
        graph_file,
        "--to",
        "loihi",
        "-o",
        tmp_path / "q.loihi.npz",
        "--plastic",
        "conv=pair",
    )


@pytest.mark.parametrize("ending", ["toml", "json"])
def test_rules_from_files(graph_file, tmp_path, ending):
    record = PAIR.to_dict()
    path = tmp_path / f"mine.{ending}"
    if ending == "json":
        path.write_text(json.dumps(record))
    else:
        path.write_text('dw = [[1, 1, -4, ["x1", "y0"]]]\nt_epoch = 2\n[traces]\nx1 = [64, 8]\n')
    plastic = tmp_path / "p.loihi.npz"
    done("export", graph_file, "--to", "loihi", "-o", plastic, "--plastic", f"fc2={path}")
    rule = LoihiGraph.load(plastic).plastic["fc2"].rule
    assert rule == PAIR if ending == "json" else (rule.name, rule.t_epoch) == ("mine", 2)
    args = ("export", graph_file, "--to", "loihi", "-o", tmp_path / "q.loihi.npz")
    deep = "nests deeper" if ending == "json" else "is not TOML"
    for text, problem in (("{", f"is not {ending.upper()}"), ("[" * 100_000, deep)):
        path.write_text(text)
        assert f"'{path}' {problem}" in refused(*args, "--plastic", f"fc2={path}")


def test_third_factors_get_inputs(graph_file, tmp_path):
    name, rule = next((n, r) for n, r in RULES.items() if r.three_factor)
    plastic = tmp_path / "p.loihi.npz"
    done("export", graph_file, "--to", "loihi", "-o", plastic, "--plastic", f"fc2={name}")
    graph = LoihiGraph.load(plastic)
    assert set(graph.modulator_inputs) == {f"fc2.{factor}" for factor in rule.third_factors}
    done("sim", plastic, "--spikes", tmp_path / "x.npz")  # nothing learns: no factors needed
    arrays = dict(np.load(tmp_path / "x.npz"))
    factors = {n: np.full((9, 2, 4), 20) for n in graph.modulator_inputs}
    np.savez(tmp_path / "y.npz", **{"in": arrays["spikes"]}, **factors)
    done("sim", plastic, "--spikes", tmp_path / "y.npz", "--learn")
    message = refused("sim", plastic, "--spikes", tmp_path / "x.npz", "--learn")
    assert all(f"'{n}'" in message for n in graph.modulator_inputs)


def test_what_is_refused(graph_file, tmp_path):
    export = ("export", graph_file, "--to", "loihi", "-o", tmp_path / "p.loihi.npz", "--plastic")
    assert "is unknown; expected one of " in refused(*export, "fc2=hebb")
    assert "is not a connection of the graph" in refused(*export, "fc9=pair")
    assert "not of the form CONNECTION=RULE" in refused(*export, "fc2")
    assert "cannot express learning rules" in refused(
        "export", graph_file, "--to", "netx", "-o", tmp_path / "p.net", "--plastic", "fc2=pair"
    )
    sim = ("sim", graph_file, "--spikes", tmp_path / "x.npz")
    assert "no connection of the graph has a learning rule" in refused(*sim, "--learn")
    assert "needs --learn" in refused(*sim, "--learned-out", tmp_path / "l.loihi.npz")
    assert "without learning" in refused(*sim, "--record", "w")
    assert not (tmp_path / "p.loihi.npz").exists()


@pytest.mark.lava
def test_parity_of_a_net_that_learns(graph_file, tmp_path):
    plastic = tmp_path / "p.loihi.npz"
    done("export", graph_file, "--to", "loihi", "-o", plastic, "--plastic", "fc2=pair")
    text = done("parity", plastic, "--spikes", tmp_path / "x.npz", "--learn")
    assert "integers (s, u, v, w, t, d, x1, x2, y1, y2, y3) equal" in text
