"""A good call of every public function and class: what it is called with, by the name of an argument.

Calls that fail are here too, where a run would cost much: their arguments are checked before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch

from biril_nm import data, engines, evaluation, export, hardware_sim, loihi, models, training
from biril_nm import hw_graph as hw
from biril_nm.coding import Coding, grey_values, regular_spikes
from biril_nm.hardware_sim.cost import energy
from biril_nm.hw_graph import plastic
from biril_nm.learning import rules
from biril_nm.learning.rule import LearningRule, Term, Trace
from tests.support.public_things import Things

__all__ = ["Calls", "constructors", "exports", "functions", "methods", "named", "settings"]

Calls = dict[str, tuple[Any, dict[str, Any]]]

WEIGHT = 2 * np.arange(6).reshape(2, 3)
KERNEL = np.ones((2, 1, 3, 3), int)
SYNAPSE = {"weight_exp": 0, "weight_bits": 8, "sign_mode": "mixed", "delay": 0}
PLASTIC = {"rule": rules.PAIR, "tag_t": WEIGHT, "tag_d": WEIGHT, "modulators": {"y2": "a"}}
WIDTHS = "vth_bits bias_mant_bits bias_exp_max weight_exp_max delay_max message_bits_max"
EVENTS = "synaptic_operation neuron_update spike hop_x hop_y"


def named(found: dict[Any, dict[str, Any]]) -> Calls:
    """The calls by the names of functions and classes."""
    return {call.__name__: (call, given) for call, given in found.items()}


def constructors(t: Things) -> Calls:
    """Classes that users make."""
    term, trace = Term(1, -4, ("x1", "y0")), Trace(16, 4)
    found: dict[Any, dict[str, Any]] = {
        loihi.ChipProfile: {
            "name": "own",
            "weight_exp_min": -1,
            "graded_spikes": True,
            **dict.fromkeys(WIDTHS.split(), 1),
        },
        Term: {"sign": 1, "exp": -4, "factors": ("x1", "y0"), "mantissa": 1},
        Trace: {"impulse": 16, "tau": 4.0},
        LearningRule: {
            "name": "own",
            "dw": (term,),
            "dt": (),
            "dd": (),
            "traces": {"x1": trace},
            "t_epoch": 1,
            "decimation": 0,
            "seed": 0,
            "three_factor": False,
        },
        Coding: {"kind": "direct", "n_steps": 4, "message_bits": 8},
        hw.LoihiGraph: {"nodes": t.graph.nodes, "edges": t.graph.edges, "metadata": {}},
        hw.Input: {"shape": (3,), "message_bits": 8, "signed": False},
        hw.Neurons: {
            "shape": (2,),
            "model": "cuba_lif",
            "registers": {},
            **dict.fromkeys(("vth", "du", "dv", "bias_mant", "bias_exp"), 1),
        },
        hw.Output: {},
        hw.Dense: {"weight": WEIGHT, **SYNAPSE, **PLASTIC},
        hw.Sparse: {"weight": scipy.sparse.csr_matrix(WEIGHT), **SYNAPSE, "rule": rules.PAIR},
        hw.Conv: {"weight": KERNEL, **SYNAPSE}
        | dict.fromkeys(("stride", "padding", "dilation", "groups"), 1),
    }
    return named(found)


def settings(t: Things) -> Calls:
    """Settings and data."""
    local = training.PlasticityConfig()
    found: dict[Any, dict[str, Any]] = {
        models.ModelConfig: t.config.to_dict() | {"coding": t.coding},
        training.TrainConfig: training.TrainConfig().to_dict() | {"plasticity": local},
        training.PlasticityConfig: vars(local),
        training.PhaseState: {"loss": "ce", "plastic": "conv", "seed": 0, "eta_scale": 1.0},
        hardware_sim.Activity: vars(t.activity),
        energy.Constant: {"picojoules": 1.0, "source": "here"},
        energy.EnergyTable: {"name": "own", "chip": "loihi1"}
        | dict.fromkeys(EVENTS.split(), energy.Constant(1.0, "here")),
        evaluation.EvaluationOptions: {"backend": "sim", "batch_size": 2, "n_threads": 1},
        engines.RunOptions: {"record": ("s",), "nodes": None, "learn": False, "n_threads": 1},
        engines.Network: {"graph": t.graph, "net": t.net},
        engines.Requirement: {"package": "numpy", "extra": ""},
        data.Split: vars(t.data.train),
        data.DataSet: vars(t.data),
        data.Batches: {"split": t.data.train, "batch_size": 2, "shuffle": True, "crop_pad": 1}
        | {"augment": ("flip",), "workers": 0},
    }
    return named(found)


def methods(t: Things) -> Calls:
    """Methods of objects that users hold."""
    graph, file = t.graph, t.folder
    found: dict[Any, dict[str, Any]] = {
        graph.with_node: {"name": "fc", "weight_exp": 1},
        t.session.run: {"spikes": t.spikes, "record": ("s",), "nodes": ("lif",), "n_threads": 1},
        t.session.step: {"x": t.spikes[0]},
        t.session.load_state: {"state": t.session.state},
        t.stream.in_chip_time: {"spikes": t.spikes},
        graph.shape_of: {"name": "in"},
        graph.incoming: {"neurons": "lif"},
        graph.message_bits_into: {"connection": "fc"},
        graph.sample_period: {"n_steps": 4},
        graph.save: {"path": file / "again.loihi.npz", "force": True},
        hw.LoihiGraph.load: {"path": file / "g.loihi.npz"},
        t.coding.encode: {"values": t.spikes, "seed": 0},
        t.coding.messages: {"values": t.spikes},
        t.coding.to_float: {"spikes": t.spikes},
        t.coding.has_steps: {"values": t.spikes},
        Coding.parse: {"text": "direct:4:8"},
        grey_values: {"values": np.zeros((1, 3), np.uint8)},
        regular_spikes: {"grey": np.zeros((1, 3), np.uint8), "n_steps": 4},
        Coding.from_dict: {"values": t.coding.to_dict()},
        LearningRule.from_dict: {"record": rules.PAIR.to_dict()},
        LearningRule.from_expressions: {
            "dw": "x0*x1",
            "dt": "x0",
            "dd": "y0",
            "t_epoch": 1,
            "rng_seed": 0,
        }
        | {"three_factor": False, "name": "own", "x1_impulse": 16, "x1_tau": 4.0},
        rules.PAIR.terms: {"variable": "dw"},
        rules.PAIR.lava_text: {"variable": "dw"},
        models.ModelConfig.from_dict: {"values": t.config.to_dict()},
        training.TrainConfig.from_dict: {"values": training.TrainConfig().to_dict()},
        training.TrainConfig().lr_at: {"epoch": 1},
        t.run.save: {"path": file / "again.npz", "force": True},
        type(t.run).load: {"path": file / "run.npz"},
        data.SHIFTS["noisy"].__call__: {"values": np.ones((1, 1, 4, 4)), "draw": 0, "amount": 0.5},
        t.loaders.train.epoch: {"number": 0},
        t.data.train.head: {"n": 1},
        t.data.head: {"n_train": 1, "n_test": 1},
        engines.get_engine("sim").run: {"network": engines.Network(graph), "spikes": t.spikes},
        hardware_sim.Activity.of: {"graph": graph, "trace": t.run, "inputs": t.spikes},
    }
    return {call.__qualname__: (call, given) for call, given in found.items()}


def exports(t: Things) -> Calls:
    """Functions of the way from torch to the chip."""
    graph, file = t.graph, t.folder
    found: dict[Any, dict[str, Any]] = {
        models.build_model: {"name": "convnet", "config": t.config, "seed": 0},
        models.load: {"path": file / "own.pt", "architecture": t.module},
        models.save: {"net": t.module, "path": file / "again.pt", "force": True}
        | {"coding": t.coding, "input_shape": (3,)},
        models.save_weights: {"module": t.net, "path": file / "weights.pt", "force": True},
        models.load_weights: {"module": t.net, "path": file / "weights.pt"},
        models.OwnNet: {"module": t.net.layers, "coding": t.coding, "takes": "step"},
        models.encode: {"coding": t.coding, "values": t.spikes, "seed": 0},
        export.get_backend: {"name": "lava"},
        export.to_nir: {"module": t.module, "sample_input": torch.ones(1, 3), "dt_s": 1e-4}
        | {"coding": t.coding},
        export.from_nir: {"graph": t.nir, "dt_s": 1e-4, "reset": "zero", "double": False}
        | {"if_integration": None},
        export.lower: {
            "nir_graph": t.nir,
            "chip": "loihi2",
            "dt_s": None,
            "weight_bits": 8,
            "seed": 0,
            "reset": None,
            "calibration": None,
            "readout": None,
            "if_integration": None,
            "scale_search": "auto",
            "split_mixed": False,
        },
        export.with_coding: {"graph": t.nir, "coding": t.coding},
        export.read_netx: {
            "path": file / "n.net",
            "input_message_bits": 0,
            "input_shape": (3,),
            "truncate": False,
            "num_layers": None,
            "skip_layers": 0,
        },
        export.with_input_bias: {"graph": graph, "picture": np.ones(2)},
        export.write_netx: {"graph": graph, "path": file / "a.net", "force": True},
    }
    return named(found)


def functions(t: Things) -> Calls:
    """Functions of the chip's graph; :mod:`tests.support.public_tools` has the others."""
    graph, file = t.graph, t.folder
    found: dict[Any, dict[str, Any]] = {
        hardware_sim.simulate: {
            "graph": graph,
            "spikes": t.spikes,
            "record": ("s",),
            "nodes": ("lif",),
            "n_threads": 1,
            "learn": False,
            "record_to": None,
            "force": True,
        },
        hardware_sim.Simulator: {
            "graph": graph,
            "batch": 1,
            "chip_time": True,
            "learn": False,
            "sample_steps": 4,
        },
        hardware_sim.map_to_chip: {
            "graph": graph,
            "chip": "loihi2",
            "n_chips": 1,
            "optimise": "traffic",
            "spikes": None,
            "seconds": 1.0,
        },
        hardware_sim.neurobench_metrics: {"graph": graph, "trace": t.run, "inputs": t.spikes},
        hardware_sim.estimate_energy: {
            "graph": graph,
            "trace": t.run,
            "mapping": t.placement,
            "chip": "loihi1",
            "inputs": t.spikes,
            "table": energy.DAVIES_2018,
        },
        hw.conv_output_shape: {"node": hw.Conv(KERNEL), "source": (1, 4, 4)},
        plastic.make_plastic: {
            "graph": graph,
            "name": "fc",
            "rule": "pair",
            "modulators": None,
            "unroll": False,
        },
        plastic.learned_changes: {"before": t.learner, "after": t.learner},
        plastic.rule_of: {"text": "pair"},
        plastic.read_rule: {"path": file / "no.toml"},
    }
    return named(found)
