"""``biril chip-train``: what it writes, how it goes on after a kill, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.onchip import ChipPlan, DeepConfig, learn_on_chip, open_run_folder, recorded
from tests.support.command_line import biril, refused

SMALL = ("chip-train", "--hidden", "12", "--train-samples", "40", "--test-samples", "30")


def test_a_run_leaves_layers_a_curve_and_a_network_that_learns_on(tmp_path):
    done = biril(*SMALL, "--passes", 2, "--validation", 0.25, "--every", 10, "--json",
                 "--out", tmp_path / "run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["records"]
    n = records[-1]["samples"] // 2
    assert [r["samples"] for r in records] == [10, 20, 30, n, n + 10, n + 20, n + 30, 2 * n]
    assert all("validation_accuracy" in r for r in records)
    assert [r["samples"] for r in records if "test_accuracy" in r] == [n, 2 * n]
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records
    layers = LoihiGraph.load(tmp_path / "run/learned.loihi.npz")
    assert not layers.plastic
    assert set(LoihiGraph.load(tmp_path / "run/plastic.loihi.npz").plastic) == {"fc1", "fc2"}
    done = biril("eval", tmp_path / "run/learned.loihi.npz", "--samples", 30, "--json")
    assert json.loads(done.stdout)["accuracy"] == records[-1]["test_accuracy"]


def test_the_curve_is_shown_with_its_numbers(tmp_path):
    done = biril(*SMALL, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    row = next(line for line in done.stdout.splitlines() if "│" in line)
    assert [cell.strip() for cell in row.split("│")][:2] == ["1", "40"]
    assert f"{record['test_accuracy']:.2%}" in row
    assert "pass 1  samples 40  validation -  test" in done.stderr


def samples(n=24, seed=0):
    r = np.random.default_rng(seed)
    return recorded(r.integers(0, 2, (16, n, 9)).astype(np.uint8), r.integers(0, 3, n))


PLAN = ChipPlan((6,), passes=2, every=8, config=DeepConfig(vth=(200, 200), readout_vth=100))


class KilledError(Exception):
    """Stands for a kill -9: nothing after it runs."""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    from biril_nm.onchip import training

    monkeypatch.setattr(training, "SAVE", 5)
    whole = learn_on_chip(samples(), samples(8), plan=PLAN)

    def kill(record):
        if record["samples"] >= 27:
            raise KilledError

    with pytest.raises(KilledError), open_run_folder(tmp_path / "run") as folder:
        learn_on_chip(samples(), samples(8), plan=PLAN, folder=folder, progress=kill)
    assert not (tmp_path / "run/learned.loihi.npz").exists()
    curve = tmp_path / "run/metrics.jsonl"
    curve.write_text("")  # a kill after the state was written leaves an older curve
    with open_run_folder(tmp_path / "run", resume=True) as folder:
        again = learn_on_chip(samples(), samples(8), plan=PLAN, folder=folder)
    assert again.graph == whole.graph
    assert np.any(again.graph.nodes["fc1"].weight & 1)

    def plain(records):
        return [{k: v for k, v in r.items() if k != "samples_per_s"} for r in records]

    assert plain(again.records) == plain(whole.records)
    with open_run_folder(tmp_path / "run", resume=True) as folder:
        curve.write_text("")
        learn_on_chip(samples(), samples(8), plan=PLAN, folder=folder)
    lines = [json.loads(line) for line in curve.read_text().splitlines()]
    assert plain(lines) == plain(whole.records)


@pytest.mark.parametrize("done", [1, 24, 25, 48])
def test_fewer_passes_than_have_begun_are_refused(done, tmp_path, monkeypatch):
    from biril_nm.onchip import training

    monkeypatch.setattr(training, "SAVE", 1)
    monkeypatch.setattr(training, "CHUNK", 1)

    def kill(record):
        if record["samples"] > done:
            raise KilledError

    with open_run_folder(tmp_path / "run") as folder:
        try:
            learn_on_chip(samples(), plan=PLAN, folder=folder, progress=kill)
        except KilledError:
            assert done < 48
    once = replace(PLAN, passes=1)
    with open_run_folder(tmp_path / "run", resume=True) as folder:
        if done <= 24:
            assert learn_on_chip(samples(), plan=once, folder=folder).records[-1]["samples"] == 24
            return
        with pytest.raises(ConfigError, match="passes is 1, .* has begun pass 2; expected at lea"):
            learn_on_chip(samples(), plan=once, folder=folder)


def other(spikes, labels):
    """Samples as in :func:`samples`, with other spikes or other labels of the same counts."""
    r = np.random.default_rng(0)
    given, classes = r.integers(0, 2, (16, 24, 9)).astype(np.uint8), r.integers(0, 3, 24)
    if spikes:
        given[3, 2, 1] ^= 1
    if labels:
        one, two = 0, int(np.flatnonzero(classes != classes[0])[0])
        classes[[one, two]] = classes[[two, one]]
    return recorded(given, classes)


def test_samples_with_another_content_are_refused(tmp_path):
    parts = (samples(), samples(8), samples(5))
    with open_run_folder(tmp_path / "run") as folder:
        learn_on_chip(*parts, PLAN, folder=folder)
    with open_run_folder(tmp_path / "run", resume=True) as folder:
        assert other(False, False).digest() == samples().digest()
        for changed in (other(True, False), other(False, True)):
            with pytest.raises(ConfigError, match="samples: train '.* before"):
                learn_on_chip(changed, *parts[1:], PLAN, folder=folder)
        for where, name in ((1, "test"), (2, "validation")):
            for part in (samples(8, seed=1), None):
                given = [*parts[:where], part, *parts[where + 1 :]]
                with pytest.raises(ConfigError, match=f"samples: {name} '.* before"):
                    learn_on_chip(*given, PLAN, folder=folder)
        learn_on_chip(*parts, PLAN, folder=folder)


def test_a_folder_with_a_curve_of_another_command_is_left_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(OutputExistsError, match="holds a run already"), open_run_folder(tmp_path):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize("state_kept", [False, True])
def test_an_interrupted_run_says_what_is_left(tmp_path, monkeypatch, state_kept):
    from biril_nm import onchip
    from biril_nm.commands.chip_train import chip_train_command
    from biril_nm.commands.samples import OwnSamples

    def interrupted(*_):
        if state_kept:
            (tmp_path / "run/state.npz").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(onchip, "learn_on_chip", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        sizes = {"hidden": "4", "train_samples": 10, "test_samples": 5}
        chip_train_command(own=OwnSamples(), out=tmp_path / "run", **sizes)
    said = "keeps its last state; continue with: biril chip-train --resume"
    assert (said in stop.value.args[0]) == state_kept
    assert ("Nothing was written" in stop.value.args[0]) != state_kept


def test_a_folder_of_another_run_is_refused(tmp_path):
    with open_run_folder(tmp_path / "run") as folder:
        learn_on_chip(samples(), plan=PLAN, folder=folder)
    with pytest.raises(Exception, match="holds a run already"), open_run_folder(tmp_path / "run"):
        pass
    other_seed = replace(PLAN, seed=1)
    with open_run_folder(tmp_path / "run", resume=True) as folder:
        with pytest.raises(ConfigError, match="plan: seed 0 before, 1 now"):
            learn_on_chip(samples(), plan=other_seed, folder=folder)
        with pytest.raises(ConfigError, match=r"samples: labels \[.*\] before"):
            learn_on_chip(samples(20), plan=PLAN, folder=folder)
    missing = pytest.raises(ConfigError, match=r"state.npz is missing; expected a folder of biril")
    with missing, open_run_folder(tmp_path / "none", resume=True):
        pass
    assert not (tmp_path / "none").exists()
    with open_run_folder(tmp_path / "run", force=True):
        assert not (tmp_path / "run/state.npz").exists()


@pytest.mark.parametrize("record", [3, {}, {"pass": 1.5, "samples": 2, "samples_per_s": 1},
                                    {"pass": 1, "samples": 2, "samples_per_s": "x"}])  # fmt: skip
def test_a_damaged_curve_is_refused(record, tmp_path):
    with open_run_folder(tmp_path) as folder:
        folder.begin(PLAN.to_dict(), {}, lambda state: None)
        folder.save({}, [record])
    with (
        open_run_folder(tmp_path, resume=True) as folder,
        pytest.raises(FileFormatError, match="has no points of a curve"),
    ):
        folder.begin(PLAN.to_dict(), {}, lambda state: None)


def test_spikes_of_a_file_are_learned_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    r = np.random.default_rng(0)
    spikes, labels = r.integers(0, 2, (16, 20, 3, 4)).astype(np.uint8), r.integers(0, 3, 20)
    np.savez("both.npz", spikes=spikes, labels=labels)
    np.savez("spikes.npz", spikes=spikes)
    np.savez("labels.npz", labels=labels)
    call = ("chip-train", "--hidden", "6", "--validation", 0.2)
    assert biril(*call, "--spikes", "both.npz", "--out", "a").returncode == 0
    done = biril(*call, "--spikes", "spikes.npz", "--labels", "labels.npz", "--out", "b")
    assert done.returncode == 0
    a, b = (LoihiGraph.load(f"{name}/learned.loihi.npz") for name in "ab")
    assert a == b
    assert a.inputs["input"].shape == (3, 4)


def test_spikes_of_any_length_are_learned_from(tmp_path, monkeypatch):
    """Silence before a sample makes it as long as the time from one learning phase to the next."""
    monkeypatch.chdir(tmp_path)
    r = np.random.default_rng(0)
    spikes, labels = r.integers(0, 2, (13, 20, 4)).astype(np.uint8), r.integers(0, 3, 20)
    np.savez("odd.npz", spikes=spikes, labels=labels)
    np.savez("even.npz", spikes=np.pad(spikes, ((3, 0), (0, 0), (0, 0))), labels=labels)
    said = []
    for name in ("odd", "even"):
        done = biril("chip-train", "--hidden", "6", "--spikes", f"{name}.npz", "--out", name)
        assert done.returncode == 0, done.stderr
        said.append("a sample takes 13 steps; 3 silent ones go before it" in done.stderr)
    assert said == [True, False]
    a, b = (LoihiGraph.load(f"{name}/learned.loihi.npz") for name in ("odd", "even"))
    assert a == b
    samples = recorded(spikes, labels)
    assert samples.after_silence(13).digest() == samples.digest()
    with pytest.raises(ConfigError, match="n_steps is 12; expected 13 or more"):
        samples.after_silence(12)


REFUSED = [
    (("--hidden", "1,2,3"), "expected inputs, one or two hidden layers"),
    (("--hidden", "x"), "expected one or two numbers of neurons"),
    (("--steps", "4"), "the teaching window is steps 1 to -1"),
    (("--steps", "12"), "learns every 16 steps, and a sample takes 12"),
    (("--steps", "1024"), "a sample takes 1024 steps; expected at most 512, as many"),
    (("--spikes", "long.npz"), "a sample takes 513 steps; expected at most 512"),
    (("--method", "bp"), "method 'bp' is unknown"),
    (("--labels", "x.npz"), "--spikes is not given"),
    (("--spikes", "spikes.npz"), "'spikes.npz' holds no 'labels'; expected"),
    (("--spikes", "spikes.npz", "--steps", "8"), "--steps: --spikes holds the samples"),
    (("--spikes", "whole.npz", "--validation", "0.9"), "the samples are 0; expected at least 1"),
    (("--dataset", "events"), "events"),
    (("--resume",), "state.npz is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_does_not_fit_is_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("spikes.npz", spikes=np.ones((16, 2, 3), np.uint8))
    np.savez("long.npz", spikes=np.ones((513, 2, 3), np.uint8), labels=[0, 1])
    np.savez("whole.npz", spikes=np.ones((16, 1, 3), np.uint8), labels=[0])
    base = ("chip-train", "--out", "run")
    sample = () if "--spikes" in options else ("--train-samples", "4")
    refused(biril(*base, *sample, *options), message)
    assert not (tmp_path / "run").exists()
