"""Readers of what trainings, studies and sessions read and leave."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutate import damage_json, damage_npy, damage_toml, damage_zip
from tests.fuzz.registry import in_place, one_of, reader

SESSION_STEPS = 3


# --- settings -----------------------------------------------------------------------------------


def _recipes(folder: Path) -> list[Path]:
    from biril_nm import recipes

    return sorted(Path(recipes.__path__[0]).glob("*.toml"))


@reader("recipe", "x.toml", _recipes, in_place(damage_toml))
def read_recipe_file(path: Path) -> object:
    from biril_nm.training.run_config import RunConfig

    return RunConfig.make({}, recipe=str(path)).to_toml()


def _plan() -> Any:
    from biril_nm.studies.grid import Method, StudyPlan

    methods = (Method("one:two", "BS"), Method("plain", "B", "control", {"lr": 0.01}))
    return StudyPlan(
        "small", methods, (0, 1), "digits", epochs=2, n_train=96, n_validation=40, n_test=60, bits=(8,),
        run={"net": {"channels": [4, 8], "hidden": [16]}, "batch_size": 32},
    )  # fmt: skip


def _plans(folder: Path) -> list[Path]:
    _plan().write(folder / "study.toml")
    return [folder / "study.toml"]


@reader("study_plan", "study.toml", _plans, in_place(damage_toml))
def read_plan(path: Path) -> object:
    from biril_nm.studies.grid import StudyPlan

    plan = StudyPlan.read(path)
    return [plan.digest(method, seed) for method, seed in plan.cells()[:8]]


def _study(folder: Path) -> list[Path]:
    plan, home = _plan(), folder / "study"
    for method, seed in plan.cells():
        cell = home / "cells" / f"{method.folder}-{seed}"
        cell.mkdir(parents=True)
        result = {
            "method": method.name, "seed": seed, "digest": plan.digest(method, seed),
            "validation": [0.5, 0.75], "epoch": 2, "accuracy": 0.7, "integers": {"8": 0.6},
            "right": "1110101101" * 6 + "-" * 300, "spikes": 40.5, "energy_j": 1e-6,
            "frozen": {"rotated": 0.3}, "learned": {"rotated": 0.5}, "seconds": 1.5,
        }  # fmt: skip
        (cell / "result.json").write_text(json.dumps(result))
    plan.write(home / "study.toml")
    return [home]


@reader("study", "study", _study, one_of(toml=damage_toml, json=damage_json))
def read_study(path: Path) -> object:
    from biril_nm.studies.grid import compare, summarise
    from biril_nm.studies.grid.runner import stored_results

    _, results = stored_results(path)
    names = {result.method for result in results}
    return summarise(results), len(names) > 1 and compare(results, *sorted(names)[:2])


# --- networks -----------------------------------------------------------------------------------


@cache
def _network() -> Any:
    import biril_nm as bnm
    from biril_nm.coding import Coding
    from biril_nm.training.integers import quantized

    config = bnm.ModelConfig(
        input_shape=(1, 4, 4), n_classes=3, coding=Coding("direct", 2), channels=(2,), hidden=(4,)
    )
    return quantized(bnm.build_model("convnet", config, seed=0), "4")


def _weights(folder: Path) -> list[Path]:
    from biril_nm.models import save

    net = _network()
    save(net, folder / "weights.pt", force=True, coding=net.coding, input_shape=(1, 4, 4))
    return [folder / "weights.pt"]


@reader("weights", "weights.pt", _weights, in_place(damage_zip))
def read_weights(path: Path) -> object:
    from biril_nm.models import load, load_weights

    net = _network()
    load_weights(net, path)
    return load(path, architecture=net).graph().summary()


def _optimizer(net: Any) -> Any:
    import torch

    return torch.optim.Adam(net.parameters(), lr=0.01)


def _checkpoints(folder: Path) -> list[Path]:
    import torch

    from biril_nm.training import TrainConfig
    from biril_nm.training.checkpoint import write_checkpoint

    net = _network()
    optimizer = _optimizer(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    record = {"epoch": 1, "phase": "B", "loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.25}
    write_checkpoint(folder / "x.pt", net, optimizer, TrainConfig(), [record])
    return [folder / "x.pt"]


@reader("checkpoint_integers", "checkpoint.pt", _checkpoints, in_place(damage_zip))
def read_integers(path: Path) -> object:
    from biril_nm.training import TrainConfig
    from biril_nm.training.checkpoint import read_checkpoint

    net = _network()
    records = read_checkpoint(path, net, _optimizer(net), TrainConfig())
    return records, net.graph().summary()


# --- the simulator ------------------------------------------------------------------------------


def _session() -> Any:
    from biril_nm.hardware_sim import Simulator
    from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
    from biril_nm.learning import rules

    nodes = {
        "in": Input((4,)),
        "fc": Dense(20 * np.eye(3, 4, dtype=np.int64), rule=rules.get_rule("pair")),
        "lif": Neurons((3,), vth=10, dv=400),
    }
    return Simulator(LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"))), learn=True)


def _states(folder: Path) -> list[Path]:
    session = _session()
    session.run(np.ones((5, 1, 4), np.int64))
    np.savez(folder / "x.npz", **session.state)
    return [folder / "x.npz"]


@reader("session", "x.npz", _states, in_place(damage_zip))
def read_state(path: Path) -> object:
    from biril_nm.storage import read_npz

    session = _session()
    session.load_state(read_npz(path))
    return session.run(np.ones((SESSION_STEPS, 1, 4), np.int64)).n_spikes


def _pictures(folder: Path) -> list[Path]:
    np.savez(folder / "x.npz", pictures=np.ones((2, 1, 4, 4), np.uint8), labels=np.arange(2))
    return [folder / "x.npz"]


def _picture_array(folder: Path) -> list[Path]:
    np.save(folder / "x.npy", np.ones((2, 1, 4, 4), np.float32))
    return [folder / "x.npy"]


@reader("pictures_npz", "x.npz", _pictures, in_place(damage_zip))
@reader("pictures_npy", "x.npy", _picture_array, in_place(damage_npy))
def read_arrays(path: Path) -> object:
    from biril_nm.coding import Coding
    from biril_nm.commands.inputs import read_pictures

    return Coding("direct", 2).encode(read_pictures(path)).sum()


# --- learning on the chip -----------------------------------------------------------------------


def _learn_on_chip(folder: Path, passes: int, resume: bool) -> Any:
    from biril_nm.onchip import ChipPlan, DeepConfig, learn_on_chip, open_run_folder, recorded

    samples = recorded(np.ones((16, 2, 4), np.uint8), [0, 1])
    config = DeepConfig(vth=(200, 200), readout_vth=100)
    with open_run_folder(folder, resume) as place:
        return learn_on_chip(samples, plan=ChipPlan((3,), passes, config=config), folder=place)


def _chip_states(folder: Path) -> list[Path]:
    _learn_on_chip(folder / "run", 1, False)
    return [folder / "run" / "state.npz"]


@reader("chip_train", "state.npz", _chip_states, in_place(damage_zip))
def read_chip_train(path: Path) -> object:
    return _learn_on_chip(path.parent, 2, True).records
