"""The benchmark's networks are what they claim, and the script runs through in quick sizes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from biril_nm.compartments import RESET_MODELS
from biril_nm.hardware_sim import simulate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def workloads(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import workloads

    return workloads


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_networks_fire_at_a_few_percent(workloads, name):
    work = workloads.WORKLOADS[name]()
    graph = work.graph()
    spikes = work.spikes(work.density, 1)
    assert abs(spikes.mean() - work.density) < 0.2 * work.density
    trace = simulate(graph, spikes, record=())
    rates = [trace.n_spikes[n] / (work.n_steps * node.size) for n, node in graph.neurons.items()]
    assert all(0.002 < rate < 0.2 for rate in rates), rates


def test_folded_pooling_is_sum_pooling(workloads):
    work = workloads.conv()
    torch = pytest.importorskip("torch")
    spikes = (np.random.default_rng(0).random((1, 16, 16, 16)) < 0.1).astype(np.float64)
    layer, node = work.layers[2], work.graph().connections["w3"]
    pooled = torch.nn.functional.avg_pool2d(torch.tensor(spikes), 2, divisor_override=1)
    kernel = torch.tensor(layer.weight, dtype=torch.float64)
    wanted = torch.nn.functional.conv2d(pooled, kernel, padding=1)
    folded = torch.tensor(np.array(node.weight), dtype=torch.float64)
    found = torch.nn.functional.conv2d(torch.tensor(spikes), folded, stride=2, padding=2)
    assert bool((found == wanted).all()) and float(wanted.abs().sum()) > 0


def test_neurons_that_pool_by_maximum_are_compared_with_it(workloads):
    import resets

    work = workloads.conv(n_steps=12)
    graph, spikes = resets.pooled_by_maximum(work), work.spikes(work.density, 1)
    assert set(graph.neurons) > {"m3", "m4"}
    assert resets.check_maxima(graph, spikes) > 50
    with pytest.raises(SystemExit, match="m3: spikes differ"):
        resets.check_maxima(graph.with_node("m3", vth=3), spikes)  # needs two spikes in a window


def test_every_reset_has_a_row(workloads):
    import resets

    text = resets.section(samples=2, rounds=1)
    for name in (*(model.name for model in RESET_MODELS), resets.FOLDED, resets.MAXIMUM):
        assert text.count(name) >= 1, name


def test_the_loop_of_the_quick_look_gives_the_spikes_of_the_simulator(workloads):
    import quick

    work = workloads.dense(n_steps=8)
    spikes = work.spikes(0.2, 2)
    found = quick.numpy_loop(work, spikes.astype(np.float32))
    assert np.array_equal(found, simulate(work.graph(), spikes)["n2"].s) and found.any()


def test_a_loss_of_speed_is_an_error(workloads, tmp_path, monkeypatch, capsys):
    import quick

    path, ratios = tmp_path / "quick.json", {"dense": 2.0, "conv": 1.0}
    monkeypatch.setattr(quick, "reference", lambda: None)
    monkeypatch.setattr(quick, "CASES", {name: lambda: None for name in ratios})
    monkeypatch.setattr(quick, "measure", lambda cases, loop, rounds: ratios)
    quick.main(["--stored", str(path), "--store"])
    ratios = {"dense": 1.42, "conv": 1.3}
    quick.main(["--stored", str(path)])
    assert "| dense | 1.420 | 2.000 | 0.71 |" in capsys.readouterr().out
    ratios = {"dense": 1.39, "conv": 0.9}
    with pytest.raises(SystemExit, match=r"^slower: dense by 3\d%$"):
        quick.main(["--stored", str(path)])


def test_every_case_of_the_quick_look_has_a_stored_ratio(workloads):
    import quick

    assert set(json.loads(quick.STORED.read_text())["ratios"]) == set(quick.CASES)


def test_ratios_are_those_of_times(workloads):
    import quick

    def busy(seconds):
        def run():
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass

        return run

    found = quick.measure({"half": busy(0.01), "double": busy(0.04)}, busy(0.02), rounds=3)
    assert 1.6 < found["half"] < 2.4 and 0.4 < found["double"] < 0.6


def test_a_stream_keeps_its_memory(workloads, capsys):
    import stream

    stream.main(["--steps", "20000", "--piece", "100"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["20", "200", "2,000", "20,000"]


@pytest.mark.slow
@pytest.mark.lava
def test_the_quick_benchmark_writes_its_page(tmp_path):
    script = BENCHMARKS / "simulator.py"
    call = [sys.executable, str(script), "--quick", "--only", "dense", "--out", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "a test of the script, not a measurement" in page
    assert "Lava fixed_pt, streaming = ours" in page and "integers (s, u, v) equal" in page
    for plot in ("benchmarks_density.png", "benchmarks_scaling.png"):
        assert f"({plot})" in page
        assert 5_000 < (tmp_path / plot).stat().st_size < 200_000


def test_scripts_of_online_learning_do_what_their_tables_say(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import online_gradients
    import online_memory

    steps = []

    class Counts(online_memory.OnlineLearner):
        def take(self, x, loss):
            steps.append(len(x))
            return super().take(x, loss)

    monkeypatch.setattr(online_memory, "OnlineLearner", Counts)
    online_memory.gradient("d-rtrl", 50, online_memory.TINY)
    assert steps == [20, 20, 10]
    rows = {row.title: row for row in online_gradients.ROWS}
    exact, loop = (rows[f"D-RTRL, {x}"] for x in ("LIF", "RLIF, V orthogonal"))
    assert online_gradients.compare(exact, 0)[0] < 1e-10 < online_gradients.compare(loop, 0)[0]
