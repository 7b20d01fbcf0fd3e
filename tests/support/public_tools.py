"""Good calls of public functions beside the way from torch to the chip."""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm import data, engines, evaluation, loihi, parity, recording, reports, training
from biril_nm.coding import check_decision, predictions
from biril_nm.compartments import compartment, source_of
from biril_nm.evaluation import interval, sharding
from biril_nm.evaluation.labelled import accuracy
from biril_nm.export import backends, nir_files, report
from biril_nm.export.lava import backend as lava
from biril_nm.hardware_sim.cost.energy import energy_text
from biril_nm.learning import rules
from biril_nm.neurons import make_neuron, make_surrogate
from biril_nm.studies import adaptation, finetuning, learning_window, readout, ridge
from biril_nm.testing import assert_parity
from biril_nm.training.integers import QuantizedNet
from tests.support.public_calls import Calls, named
from tests.support.public_things import Things

__all__ = ["integers", "studies", "tools", "trainings"]

ONES = np.ones((4, 2, 3), int)
SIZES = np.array([1, 2])
BITS = {"weight_bits": 8, "mode": "mixed"}


def integers() -> Calls:
    """Arithmetic of the chip, and what is found by name."""
    found: dict[Any, dict[str, Any]] = {
        loihi.chip_profile: {"name": "loihi1"},
        loihi.bias_registers: {"bias": SIZES, "mant_max": 100, "exp_max": 7},
        loihi.decay_toward_zero: {"state": SIZES, "decay": SIZES},
        loihi.decay_u_register: {"fraction": 0.5},
        loihi.decay_v_register: {"fraction": 0.5},
        loihi.prepare_weights: {"weights": SIZES, **BITS},
        loihi.truncate_weights: {"weights": SIZES, **BITS},
        loihi.round_half_away: {"value": SIZES},
        loihi.shift_arithmetic: {"value": SIZES, "exponent": 1},
        loihi.sign_mode_of: {"weights": SIZES},
        loihi.weight_limits: {"mode": "mixed"},
        loihi.weight_step: BITS,
        loihi.wrap_state: {"value": SIZES},
        check_decision: {"decision": "count"},
        predictions: {"spikes": ONES, "v_last": ONES[0], "vth": 1, "decision": "count"},
        compartment: {"name": "cuba_lif"},
        source_of: {"name": "cuba_lif"},
        make_neuron: {"kind": "if", "beta": 1.0, "threshold": 1.0, "surrogate": "sigmoid"},
        make_surrogate: {"name": "sigmoid"},
        data.get_shift: {"name": "noisy"},
        engines.get_engine: {"name": "sim"},
        backends.get_target: {"name": "lava"},
        rules.get_rule: {"rule": "pair"},
        rules.pair_rule: dict.fromkeys(("a_plus", "tau_plus", "tau_minus"), 4.0)
        | {"a_minus": -1.0, "name": "own", "seed": 0},
        rules.delta_rule: {"exp": -4, "tau": 3.0, "impulse": 16, "tau_error": 0.0, "seed": 0},
        rules.three_factor_rule: {"exp": -4, "tau": 3.0, "impulse": 16, "decimation": 0},
        energy_text: {"joules": 1e-6},
    }
    return named(found)


def tools(t: Things) -> Calls:
    """Runs, comparisons and files."""
    graph, file = t.graph, t.folder
    found: dict[Any, dict[str, Any]] = {
        nir_files.read_nir: {"path": file / "n.nir"},
        nir_files.write_nir: {"path": file / "a.nir", "graph": t.nir, "force": True},
        report.write_report: {"path": file / "n.net", "graph": graph, "run_dir": file},
        lava.build: {"graph": graph, "n_steps": 0, "chip": "loihi9", "learn": False},
        lava.write: {"graph": graph, "path": file / "b", "spikes": t.spikes, "chip": "loihi9"},
        lava.run_lava: {"graph": graph, "spikes": t.spikes, "record": ("w",), "nodes": ("no",)},
        parity.check_parity: {
            "graph": graph,
            "spikes": t.spikes,
            "against": ("sim", "none"),
            "variables": ("s",),
            "net": None,
            "min_agreement": 0.9,
            "max_rate_difference": 0.1,
            "coding": None,
        },
        assert_parity: {
            "net": t.module,
            "spikes": t.spikes,
            "against": ("torch",),
            "dt_s": 1e-4,
            "weight_bits": 8,
            "min_agreement": 0.0,
            "max_rate_difference": 1.0,
            "sample_input": None,
        },
        parity.compare: {"name_a": "a", "a": t.run, "name_b": "b", "b": t.run, "order": ("lif",)},
        parity.compare_learning: {"name_a": "a", "a": t.run, "name_b": "b", "b": t.run},
        recording.recorded_nodes: {"graph": graph, "nodes": ("lif",)},
        recording.check_variables: {"names": ("s",)},
        recording.split_variables: {"names": ("s",), "learn": False},
        recording.joined: {"recordings": (t.run, t.run)},
    }
    return named(found)


class Logger:
    """The methods of Lightning's loggers."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def log_hyperparams(self, params: dict[str, Any]) -> None: ...

    def finalize(self, status: str) -> None: ...


def trainings(t: Things) -> Calls:
    """Training and data."""
    once = training.TrainConfig("B", 1, device="cpu", tensorboard=False, curves=False)
    found: dict[Any, dict[str, Any]] = {
        training.fit: {
            "net": t.net,
            "loaders": (t.loaders.train, None),
            "config": once,
            "callbacks": (),
            "out_dir": None,
            "resume": False,
            "force": False,
        },
        QuantizedNet: {"source": t.graph, "surrogate": "sigmoid", "fixed": ()},
        QuantizedNet(t.graph).run_integers: {"spikes": t.spikes, "record": ("s",)},
        training.evaluate: {"net": t.net, "loader": t.loaders.test, "seed": 0, "device": "cpu"},
        training.parse_schedule: {"text": "1:6:2"},
        training.phase_at: {"cycle": "BS", "index": 1},
        training.phases_of: {"cycle": "BS"},
        training.ratio_of: {"cycle": "BS"},
        training.plastic_links: {"net": t.net, "plastic": "conv+fc"},
        training.average: {"nets": [t.net]},
        training.LogTo: {"logger": Logger(), "hyperparameters": {"lr": 0.1}},
        training.resolve_device: {"name": "cpu"},
        data.load_data: {"name": "no such", "data_root": t.folder, "seed": 0, "download": False},
        data.make_loaders: {"data": t.data, "batch_size": 2, "crop_pad": 1, "test_batch_size": 2},
    }
    return named(found)


def studies(t: Things) -> Calls:
    """Evaluation and learning on the chip."""
    graph, samples = t.graph, sharding.ArraySamples(np.ones((0, 3)), np.zeros(0))
    shares = {"coding": t.coding, "n_workers": 1, "options": None, "cluster": False}
    run = {"values": t.spikes, "labels": t.labels, "coding": t.coding}
    few = {"graph": graph, "spikes": t.spikes, "labels": t.labels, "seed": 0}
    learned = {**few, "config": readout.DeltaConfig(replays=1)}
    found: dict[Any, dict[str, Any]] = {
        evaluation.evaluate_graph: {"graph": graph, **run, "backend": "sim", "batch_size": 2},
        evaluation.evaluate_shard: {"network": graph, **run, "options": None, "first_batch": 0},
        accuracy: {"network": graph, "spikes": t.spikes, "labels": t.labels, "coding": None}
        | {"backend": "sim", "decision": "count", "batch_size": 2, "seed": 0},
        reports.report: {"graph": graph, "spikes": t.spikes, "labels": t.labels, "net": None}
        | {"out": t.folder / "r.txt", "against": ("sim",), "n_samples": 2, "force": True},
        evaluation.predict: {"graph": graph, "recording": t.run},
        evaluation.single_readout: {"graph": graph},
        sharding.evaluate_graphs: {"graphs": (graph,), "samples": samples, **shares},
        interval.accuracy_interval: {"n_right": 3, "n_samples": 4},
        sharding.evaluate_sharded: {"graph": graph, "samples": samples, **shares},
        sharding.ArraySamples: {"values": t.spikes, "labels": t.labels, "axis": 1},
        readout.DeltaConfig: vars(readout.DeltaConfig()),
        finetuning.finetune: learned,
        finetuning.adapt: learned,
        readout.fresh_readout: {"graph": graph, "vth": 64},
        readout.frozen: {"graph": t.learner},
        readout.plastic_readout: {"graph": graph, "config": None, "seed": 0},
        readout.readout_connection: {"graph": graph},
        readout.stream: {
            "graph": readout.plastic_readout(graph),
            "spikes": t.spikes,
            "labels": t.labels,
            "config": None,
        },
        readout.target_spikes: {"labels": t.labels, "n_classes": 2, "n_steps": 4},
        ridge.fit_ridge: {
            "features": np.eye(20, 3),
            "labels": np.arange(20) % 2,
            "n_classes": 2,
        },
        adaptation.samples_per_class: {
            "labels": t.labels,
            "per_class": 1,
            "n_classes": 2,
            "seed": 0,
        },
        learning_window.Protocol: vars(learning_window.Protocol()),
        learning_window.measure_window: {"rule": rules.PAIR, "lags": (1,), "repeats": 1},
    }
    return named(found)
