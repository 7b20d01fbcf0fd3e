"""Many processes give the result of one, to the last spike."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, MissingDependencyError, WorkerError
from biril_nm.evaluation.accuracy import EvaluationOptions, evaluate_graph
from biril_nm.evaluation.sharding import (
    ArraySamples,
    DataSetSamples,
    evaluate_graphs,
    evaluate_sharded,
)
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from tests.support import killable
from tests.support.command_line import biril

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason='needs Ray: pip install "biril-nm[cluster]"')
RATE = Coding("rate", n_steps=6, message_bits=0)
TENS = EvaluationOptions(batch_size=10)


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


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder of temporary files of this process."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_two_workers_equal_one_process_under_rate_coding(scratch):
    graph, (values, labels) = classifier(), samples()
    one = evaluate_graph(graph, values, labels, RATE, batch_size=10, seed=5)
    seen, files = [], set()

    def watch(done):
        seen.append(done)
        files.update(path.name for path in scratch.rglob("*.npy"))

    two = evaluate_sharded(
        graph,
        ArraySamples(values, labels),
        RATE,
        n_workers=2,
        options=EvaluationOptions(batch_size=10, seed=5),
        progress=watch,
    )
    same(one, two)
    assert files == {"values.npy", "labels.npy"} and not list(scratch.iterdir())
    assert seen[-1] == two.n_samples == 57
    other = evaluate_graph(graph, values, labels, RATE, batch_size=10, seed=6)
    assert other.firing_rates != one.firing_rates  # the seed matters, so the batches kept theirs


@pytest.mark.slow
def test_a_sweep_keeps_the_order_of_graphs():
    graphs, (values, labels) = [classifier(s) for s in range(3)], samples()
    alone = [evaluate_graph(g, values, labels, RATE, batch_size=20) for g in graphs]
    options = EvaluationOptions(batch_size=20)
    found = evaluate_graphs(graphs, ArraySamples(values, labels), RATE, options=options)
    for a, b in zip(alone, found):
        same(a, b)
    assert len({str(f.firing_rates) for f in found}) == 3


def test_workers_read_their_part_of_a_data_set():
    source = DataSetSamples.of("digits", samples=100)
    values, labels = source.read()
    assert len(source) == len(labels) == 100
    parts = [source.part(0, 60), source.part(60, 120)]
    assert [len(part) for part in parts] == [60, 40]
    np.testing.assert_array_equal(np.concatenate([p.read()[0] for p in parts]), values)


@dataclass(frozen=True)
class Misfortune:
    """A source that fails when a worker reads it."""

    kind: str
    n: int = 40

    def __len__(self):
        return self.n

    def part(self, start, stop):
        return Misfortune(self.kind, min(stop, self.n) - start)

    def read(self):
        if self.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "unreadable":
            raise FileNotFoundError("no folder 'MNIST' on this machine")
        Path(tempfile.gettempdir(), f"reads {os.getpid()}").touch()
        time.sleep(600)


@pytest.mark.parametrize(
    ("n_workers", "batch_size"),
    [
        pytest.param(2, 7, id="odd", marks=pytest.mark.slow),
        pytest.param(2, 100, id="one batch", marks=pytest.mark.slow),
        pytest.param(3, 30, id="two batches", marks=pytest.mark.slow),
    ],
)
def test_any_number_of_workers_and_batches_gives_the_same(n_workers, batch_size):
    graphs, (values, labels) = [classifier(s) for s in range(2)], samples()
    codings = [RATE, Coding("rate", n_steps=4, message_bits=0)]
    alone = [
        evaluate_graph(g, values, labels, c, batch_size=batch_size, seed=3)
        for g, c in zip(graphs, codings)
    ]
    source = ArraySamples(values, labels)
    options = EvaluationOptions(batch_size=batch_size, seed=3)
    found = evaluate_graphs(graphs, source, codings, n_workers, options)
    for a, b in zip(alone, found):
        same(a, b)


@pytest.mark.slow
@needs_ray
def test_ray_equals_one_process():
    graphs, (values, labels) = [classifier(s) for s in range(2)], samples()
    alone = [evaluate_graph(g, values, labels, RATE, batch_size=10) for g in graphs]
    found = evaluate_graphs(graphs, ArraySamples(values, labels), RATE, 2, TENS, cluster=True)
    for a, b in zip(alone, found):
        same(a, b)


@pytest.mark.slow
@needs_ray
def test_a_killed_ray_worker_is_reported():
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers lack this file
    with pytest.raises(
        WorkerError, match=r"ended before its part was done, 3 times: .* died .* Use fewer workers"
    ):
        evaluate_sharded(classifier(), Misfortune("killed"), RATE, cluster=True)


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_a_cluster_that_does_not_answer_is_reported(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WorkerError, match=rf"RAY_ADDRESS '{address}'. Start one with .ray start"):
        evaluate_sharded(classifier(), ArraySamples(*samples()), RATE, cluster=True)


def test_a_missing_ray_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"biril-nm\[cluster\]"):
        evaluate_sharded(classifier(), ArraySamples(*samples()), RATE, cluster=True)


@pytest.mark.timeout(600)  # on a machine that may be busy
def test_a_killed_worker_is_reported_and_hangs_nothing(scratch):
    with pytest.raises(WorkerError, match=r"a worker process ended before .*Use fewer workers"):
        evaluate_sharded(classifier(), Misfortune("killed", 10), RATE, options=TENS)
    assert not list(scratch.iterdir())


@dataclass(frozen=True)
class KilledOnce:
    """Samples whose second part kills the worker that reads it first."""

    folder: str
    start: int = 0
    stop: int = 57

    def __len__(self):
        return self.stop - self.start

    def part(self, start, stop):
        return KilledOnce(self.folder, self.start + start, min(self.start + stop, self.stop))

    def read(self):
        mark = Path(self.folder) / "killed"
        if self.start == 10 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        values, labels = samples()
        return values[self.start : self.stop], labels[self.start : self.stop]


@pytest.mark.slow
def test_a_worker_that_is_killed_once_changes_no_result(tmp_path):
    graph, (values, labels) = classifier(), samples()
    one = evaluate_graph(graph, values, labels, RATE, batch_size=10)
    two = evaluate_sharded(graph, KilledOnce(str(tmp_path)), RATE, options=TENS)
    assert (tmp_path / "killed").exists()
    same(one, two)


def test_data_that_a_worker_cannot_read_is_reported():
    with pytest.raises(ConfigError, match=r"its shard: FileNotFoundError: no folder 'MNIST'"):
        evaluate_sharded(classifier(), Misfortune("unreadable"), RATE, options=TENS)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_all_workers(tmp_path):
    """Ctrl-C in a terminal reaches the whole group; here the workers would read for ten minutes."""
    code = (
        "from tests.evaluation.test_sharding import *\n"
        "if __name__ == '__main__':\n"
        "    import multiprocessing, threading\n"
        "    def tell():\n"
        "        while len(multiprocessing.active_children()) < 2: time.sleep(0.1)\n"
        "        print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n"
        "    threading.Thread(target=tell, daemon=True).start()\n"
        "    evaluate_sharded(classifier(), Misfortune('slow'), RATE, options=TENS)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)}, preexec_fn=killable.restore_signals,  # noqa: PLW1509
    )  # fmt: skip
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    end = time.monotonic() + killable.ROOM_S
    while len(list(tmp_path.glob("reads *"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=killable.ROOM_S)
    assert "KeyboardInterrupt" in errors and parent.returncode != 0
    assert not any(alive(pid) for pid in workers)
    assert not list(tmp_path.glob("biril-eval-*"))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_refuses_is_heard():
    values, labels = samples(20)
    with pytest.raises(ConfigError, match=r"could not evaluate its shard: .*expected 0 to 1"):
        evaluate_sharded(classifier(), ArraySamples(values + 2, labels), RATE, options=TENS)


def test_nothing_to_do_is_refused():
    source = ArraySamples(*samples(0))
    with pytest.raises(ConfigError, match="no samples"):
        evaluate_sharded(classifier(), source, RATE)
    with pytest.raises(ConfigError, match="1 codings for 2 graphs. Give one for each"):
        evaluate_graphs([classifier()] * 2, ArraySamples(*samples()), [RATE])
    with pytest.raises(ConfigError, match="n_workers is 0; expected an integer from 1"):
        evaluate_sharded(classifier(), ArraySamples(*samples()), RATE, n_workers=0)


@pytest.mark.slow
def test_the_command_line_gives_the_same_with_workers(tmp_path):
    path = tmp_path / "g.loihi.npz"
    classifier().with_metadata(coding={"input": RATE.to_dict()}).save(path)
    found = []
    for workers in ("1", "2"):
        done = biril("eval", path, "--workers", workers, "--json")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    one, two = ({k: r[k] for k in ("accuracy", "n_samples", "firing_rates")} for r in found)
    assert one == two and one["n_samples"] == 360 and two["firing_rates"]["out"] > 0


@pytest.mark.slow
def test_the_command_line_sweeps_over_files(tmp_path):
    paths = [tmp_path / f"g{seed}.loihi.npz" for seed in range(3)]
    for seed, path in enumerate(paths):
        classifier(seed).with_metadata(coding={"input": RATE.to_dict()}).save(path)

    def run(*options):
        done = biril("eval", *paths, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    values, labels = DataSetSamples.of("digits").read()
    alone = [evaluate_graph(classifier(seed), values, labels, RATE) for seed in range(3)]
    swept = json.loads(run("--json", "--workers", "2"))["results"]
    assert [r["source"] for r in swept] == [str(path) for path in paths]
    assert [r["firing_rates"] for r in swept] == [r.firing_rates for r in alone]
    assert [r["accuracy"] for r in swept] == [r.accuracy for r in alone]
    best = max(swept, key=lambda r: r["accuracy"])
    assert f"best: {best['source']}, {best['accuracy']:.2%}" in run()


def test_workers_run_no_torch_network(tmp_path):
    import biril_nm as bnm

    path = tmp_path / "m.pt"
    bnm.save(bnm.build_model("mlp", bnm.ModelConfig(input_shape=(1, 8, 8)), seed=0), path)
    done = biril("eval", path, "--workers", "2")
    assert done.returncode == 1 and "--backend sim or lava" in done.stderr
