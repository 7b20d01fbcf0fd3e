"""Many processes give the result of one, to the last spike."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, MissingDependencyError
from biril_nm.evaluation import evaluate_graph
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.sharding import ArraySource, DataSetSource, evaluate_graphs, evaluate_sharded

HAS_RAY = importlib.util.find_spec("ray") is not None
RATE = Coding("rate", n_steps=6, message_bits=0)


def classifier(seed=0):
    r = np.random.default_rng(seed)
    return LoihiGraph(
        {
            "input": Input((1, 8, 8)),
            "fc": Dense(2 * r.integers(-40, 60, (10, 64))),
            "out": Neurons((10,), vth=200, dv=300),
            "output": Output(),
        },
        (("input", "fc"), ("fc", "out"), ("out", "output")),
    )


def samples(n=57):
    r = np.random.default_rng(1)
    return r.random((n, 1, 8, 8)).astype(np.float32), r.integers(0, 10, n)


def same(a, b):
    assert replace(a, seconds=0.0) == replace(b, seconds=0.0)
    assert sum(a.firing_rates.values()) > 0


def test_two_workers_equal_one_process_under_rate_coding():
    graph, (values, labels) = classifier(), samples()
    one = evaluate_graph(graph, values, labels, RATE, batch_size=10, seed=5)
    seen = []
    two = evaluate_sharded(
        graph,
        ArraySource(values, labels),
        RATE,
        n_workers=2,
        batch_size=10,
        seed=5,
        progress=seen.append,
    )
    same(one, two)
    assert seen[-1] == two.n_samples == 57
    other = evaluate_graph(graph, values, labels, RATE, batch_size=10, seed=6)
    assert other.firing_rates != one.firing_rates  # the seed matters, so the batches kept theirs


def test_a_sweep_keeps_the_order_of_graphs():
    graphs, (values, labels) = [classifier(s) for s in range(3)], samples()
    alone = [evaluate_graph(g, values, labels, RATE, batch_size=20) for g in graphs]
    found = evaluate_graphs(graphs, ArraySource(values, labels), RATE, batch_size=20)
    for a, b in zip(alone, found):
        same(a, b)
    assert len({str(f.firing_rates) for f in found}) == 3


def test_workers_read_their_part_of_a_data_set():
    source = DataSetSource.of("digits", samples=100)
    values, labels = source.read()
    assert len(source) == len(labels) == 100
    parts = [source.part(0, 60), source.part(60, 120)]
    assert [len(part) for part in parts] == [60, 40]
    np.testing.assert_array_equal(np.concatenate([p.read()[0] for p in parts]), values)


@pytest.mark.skipif(not HAS_RAY, reason='needs Ray: pip install "biril-nm[cluster]"')
def test_ray_equals_one_process():
    graph, (values, labels) = classifier(), samples()
    one = evaluate_graph(graph, values, labels, RATE, batch_size=10)
    source = ArraySource(values, labels)
    same(one, evaluate_sharded(graph, source, RATE, 2, batch_size=10, cluster=True))


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_a_missing_ray_is_told():
    with pytest.raises(MissingDependencyError, match=r"biril-nm\[cluster\]"):
        evaluate_sharded(classifier(), ArraySource(*samples()), RATE, cluster=True)


def test_a_worker_that_refuses_is_heard():
    values, labels = samples(20)
    with pytest.raises(ConfigError, match=r"could not evaluate its shard: .*needs values in 0..1"):
        evaluate_sharded(classifier(), ArraySource(values + 2, labels), RATE, batch_size=10)


def test_nothing_to_do_is_refused():
    source = ArraySource(*samples(0))
    with pytest.raises(ConfigError, match="no samples"):
        evaluate_sharded(classifier(), source, RATE)
    with pytest.raises(ConfigError, match="n_workers 0"):
        evaluate_sharded(classifier(), ArraySource(*samples()), RATE, n_workers=0)


def test_the_command_line_gives_the_same_with_workers(tmp_path):
    path = tmp_path / "g.loihi.npz"
    classifier().with_metadata(coding={"input": RATE.to_dict()}).save(path)
    found = []
    for workers in ("1", "2"):
        call = [sys.executable, "-m", "biril_nm", "eval", str(path), "--workers", workers, "--json"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    one, two = ({k: r[k] for k in ("accuracy", "n_samples", "firing_rates")} for r in found)
    assert one == two and one["n_samples"] == 360 and two["firing_rates"]["out"] > 0


def test_workers_run_no_torch_network(tmp_path):
    import biril_nm as bnm

    path = tmp_path / "m.pt"
    bnm.save(bnm.build_model("mlp", bnm.ModelConfig(input_shape=(1, 8, 8)), seed=0), path)
    call = [sys.executable, "-m", "biril_nm", "eval", str(path), "--workers", "2"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "--backend sim or lava" in done.stderr
