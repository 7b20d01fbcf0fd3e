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

    text = resets.measure(samples=2, rounds=1).markdown()
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
    assert [line.split()[1] for line in lines[2:]] == ["20", "200", "2,000", "20,000"]


@pytest.fixture
def section(workloads):
    import section

    return section


def test_targets_are_met_by_the_median(section):
    from measuring import Measured

    found = Measured.of([1.0, 3.0, 2.0])
    why = "half of it is spent elsewhere"
    rows = [
        section.at_least("speed", found, 2, "x", why),
        section.at_least("more speed", found, 2.5, "x", why, stretch=3),
        section.at_most("time", found, 1.5, " s", why),
        section.at_most("nothing", None, 1, " s", "Lava is not installed"),
    ]
    assert [row.met for row in rows] == [True, False, False, None]
    lines = section.targets(rows).splitlines()[2:]
    assert lines[0] == "| speed | 2.00 [1.00-3.00]x | >= 2x | yes |  |"
    assert lines[1].endswith(f">= 2.5x (stretch 3x) | **no** | {why} |")
    assert lines[3] == "| nothing | not measured | <= 1 s |  | Lava is not installed |"


def test_a_page_begins_with_all_targets(section, tmp_path):
    from page import page, write_page

    curve = {"engine": [(1.0, 2.0, 1.0, 3.0), (10.0, 3.0, 2.0, 4.0)]}
    missed = section.Row("speed", "1x", ">= 2x", False, "half of it is spent elsewhere")
    sections = {
        "dense": section.Section("dense net", [missed], "Rates.", ["equal"], curve),
        "scaling": section.Section("Cost", (), "Costs.", (), curve),
    }
    text = page(sections, "0.1, 0.1, 0.1", 60.0, quick=False)
    assert "0 of 1 targets are met" in text
    assert text.index("half of it is spent elsewhere") < text.index("## Machine")
    assert text.index("- equal") < text.index("Rates.") < text.index("Costs.")
    write_page(text, sections, tmp_path)
    written = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert "Rates.\n\n![benchmarks_density](benchmarks_density.png)\n\n## Cost" in written
    assert "Costs.\n\n![benchmarks_scaling](benchmarks_scaling.png)\n\n## Time" in written


def test_the_run_has_a_plan(workloads):
    import simulator

    assert sum(plan.seconds for plan in simulator.SECTIONS.values()) < simulator.BUDGET_S
    for name, plan in simulator.SECTIONS.items():
        source = (BENCHMARKS / f"{plan.module}.py").read_text("utf-8")
        assert f"def {plan.function}(size: Size) -> Section:" in source, name


def test_packages_that_are_missing_leave_their_section_out(workloads, monkeypatch):
    import simulator

    monkeypatch.setattr(simulator, "installed", lambda name: False)
    found = simulator.run(["torch-int"], quick=True, threads=1)
    assert found["torch-int"].text == "Not measured: snntorch is not installed."


def test_work_in_a_process_of_its_own(workloads):
    import large
    from measuring import in_child

    (found,) = in_child(large.mapping, large.SPARSE, True, 1)
    assert found["cores"] >= max(found["bounds"].values()) > 0
    with pytest.raises(SystemExit, match=r"^large.mapping ended with exit code 1$"):
        in_child(large.mapping, "no such network", True, 1)


def test_memory_of_work_is_its_peak(workloads):
    from measuring import costs, give_back_memory

    give_back_memory()  # what the tests before have freed
    spent, total = costs(lambda: int(np.ones(1 << 24).sum()))  # freed again
    assert total == 1 << 24
    assert 112 < spent.mib < 144 and spent.cpu > 0  # 128; the system counts pages in batches


def test_spikes_of_large_networks_are_compared(workloads):
    import large_networks
    import sparse

    matrix = large_networks.random_matrix(200, 10)
    graph = large_networks.random_network(matrix)
    silence = np.zeros((6, 1, 1), np.uint8)
    s = np.asarray(simulate(graph, silence, n_threads=1)["n"].s)
    assert 0.4 < s.mean() < 0.8
    assert sparse.check(matrix, s, graph) == s[: sparse.CHECKED].sum()
    s[1, 0, 7] ^= 1
    with pytest.raises(SystemExit, match=r"^1 spikes differ from SciPy's$"):
        sparse.check(matrix, s, graph)


def test_forms_of_a_network_are_compared(workloads, section):
    import forms

    work = workloads.dense(n_steps=8)
    graph, spikes = work.graph(), work.spikes(0.3, 2)
    row, equal = forms.pair(
        "int64", section.Size(quick=True), (graph, spikes.astype(int)), (graph, spikes)
    )
    assert row.target == ">= 0.95x" and equal.startswith("int64: 160 output values equal")
    other = graph.with_node("n2", vth=3)
    with pytest.raises(SystemExit, match="^int64: .* output spikes differ"):
        forms.pair("int64", section.Size(quick=True), (other, spikes), (graph, spikes))


def test_a_profile_names_the_function_that_takes_the_time(workloads):
    import profiling

    def slow():
        for i in range(10_000):
            str(i)

    assert "slow" in profiling.hottest(slow, shown=1)
    assert profiling.imports(["-c", "import json"]).endswith(" s")


@pytest.mark.slow
@pytest.mark.lava
def test_the_quick_benchmark_writes_its_page(tmp_path):
    script, names = BENCHMARKS / "simulator.py", ["dense", "scaling"]
    call = [sys.executable, str(script), "--quick", "--out", str(tmp_path), "--only", *names]
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
