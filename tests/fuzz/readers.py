"""Readers of networks, recordings and what a run leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.data_readers import read_images
from tests.fuzz.hdf5_headers import read_members
from tests.fuzz.mutate import (
    damage_bytes,
    damage_json,
    damage_lines,
    damage_npy,
    damage_toml,
    damage_zip,
)
from tests.fuzz.registry import OLD, READERS, golden, hdf5_file, in_place, one_of, reader
from tests.fuzz.training_readers import read_weights

__all__ = [
    "READERS",
    "read_images",
    "read_members",
    "read_weights",
]  # importing a module registers its readers

SMALL = 10_000  # neurons of a graph that is simulated


# --- networks -----------------------------------------------------------------------------------


@reader("nir", "x.nir", golden("v0_1_0/chain.nir", "norse_mlp.nir", "sinabs_conv.nir"), hdf5_file)
def read_nir_file(path: Path) -> object:
    from biril_nm.errors import ConfigError, UnsupportedNodeError
    from biril_nm.export import lower
    from biril_nm.export.nir_files.files import read_nir

    graph = read_nir(path)
    try:
        return lower(graph).summary()
    except (ConfigError, UnsupportedNodeError):  # it does not state dt and reset
        return lower(graph, dt_s=1e-6, reset="zero").summary()


@reader("netx", "x.net", golden("v0_1_0/chain.net"), hdf5_file)
def read_netx_file(path: Path) -> object:
    from biril_nm.export import read_netx

    return read_netx(path, truncate=True).summary()


@reader(
    "loihi",
    "x.loihi.npz",
    golden("v0_1_0/every_kind.loihi.npz", "v0_1_0/chain.loihi.npz", "v0_1_0/lowered.loihi.npz"),
    in_place(damage_zip),
)
def read_graph(path: Path) -> object:
    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import LoihiGraph

    graph = LoihiGraph.load(path)
    if sum(node.size for node in graph.neurons.values()) < SMALL:
        zeros = {n: np.zeros((3, 1, *i.shape), np.int32) for n, i in graph.inputs.items()}
        simulate(graph, zeros, n_threads=1, learn=bool(graph.plastic))
    return graph.summary()


def _models(folder: Path) -> list[Path]:
    import biril_nm as bnm

    net = bnm.build_model("convnet", bnm.ModelConfig(channels=(2,), hidden=(4,)), seed=0)
    bnm.save(net, folder / "new.pt", force=True)
    return [folder / "new.pt", folder / "new.pt", OLD / "model.pt"]


@reader("model", "model.pt", _models, in_place(damage_zip))
def read_model(path: Path) -> object:
    import biril_nm as bnm
    from biril_nm.export import to_nir

    return to_nir(bnm.load(path))


def _checkpoints(folder: Path) -> list[Path]:
    from biril_nm.training.checkpoint import write_checkpoint

    net, optimizer, config, records = _restored(OLD / "run" / "checkpoint.pt")
    write_checkpoint(folder / "new.pt", net, optimizer, config, records)
    return [folder / "new.pt", folder / "new.pt", OLD / "run" / "checkpoint.pt"]


def _restored(path: Path) -> Any:
    import torch

    from biril_nm.models import build_model
    from biril_nm.training.checkpoint import read_checkpoint
    from biril_nm.training.run_config import RunConfig

    run = RunConfig.read(OLD / "run" / "config.toml")
    net = build_model(run.model, run.net, run.seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=run.train.lr)
    return net, optimizer, run.train, read_checkpoint(path, net, optimizer, run.train)


@reader("checkpoint", "checkpoint.pt", _checkpoints, in_place(damage_zip))
def read_checkpoint_file(path: Path) -> object:
    return _restored(path)


# --- text ---------------------------------------------------------------------------------------


@reader("config", "config.toml", golden("v0_1_0/run/config.toml"), in_place(damage_toml))
def read_config(path: Path) -> object:
    from biril_nm.training.run_config import RunConfig

    run = RunConfig.read(path)
    return run.to_toml()


@reader("rule_toml", "rule.toml", golden("v0_1_0/rule.toml"), in_place(damage_toml))
@reader("rule_json", "rule.json", golden("v0_1_0/rule.json"), in_place(damage_json))
def read_rule_file(path: Path) -> object:
    from biril_nm.hw_graph.plastic import read_rule

    return repr(read_rule(path))


def _run_folder(folder: Path) -> list[Path]:
    shutil.copytree(OLD / "run", folder / "run", dirs_exist_ok=True)
    (folder / "run" / "curves.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    return [folder / "run"]


@reader("run_folder", "run", _run_folder, one_of(jsonl=damage_lines, png=damage_bytes))
def read_run_folder(path: Path) -> object:
    from biril_nm.export.report.page import read_curves, read_epochs

    return read_epochs(path), read_curves(path)


# --- arrays -------------------------------------------------------------------------------------


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "x.npy", np.ones((4, 2, 10), np.uint8))
    return [folder / "x.npy"]


def _npz(folder: Path) -> list[Path]:
    np.savez(folder / "a.npz", spikes=np.ones((4, 2, 10), np.uint8))
    np.savez_compressed(folder / "b.npz", **{"in": np.ones((4, 2, 10), np.int64)})
    return [folder / "a.npz", folder / "b.npz"]


@reader("spikes_npz", "x.npz", _npz, in_place(damage_zip))
@reader("spikes_npy", "x.npy", _npy, in_place(damage_npy))
def read_spikes_file(path: Path) -> object:
    from biril_nm.commands.inputs import read_spikes
    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import LoihiGraph

    graph = LoihiGraph.load(OLD / "chain.loihi.npz")
    return simulate(graph, read_spikes(path, graph), n_threads=1)


@reader(
    "recording",
    "x.npz",
    golden("v0_1_0/trace.npz", "v0_1_0/learning_trace.npz"),
    in_place(damage_zip),
)
@reader(
    "recording_folder",
    "trace",
    golden("v0_1_0/trace"),
    one_of(json=damage_json, npy=damage_npy),
)
def read_recording(path: Path) -> object:
    from biril_nm.recording import Recording

    recording = Recording.load(path)
    arrays = [a for node in recording.values() for a in node.variables().values()]
    return recording.n_spikes, [int(array.astype(np.int64).sum()) for array in arrays]


def _bundle(folder: Path) -> list[Path]:
    from biril_nm.export import get_backend
    from biril_nm.hw_graph import LoihiGraph

    graph = LoihiGraph.load(OLD / "chain.loihi.npz")
    get_backend("lava").write(graph, folder / "bundle", force=True)
    return [folder / "bundle" / "network.npz"]


@reader("bundle", "network.npz", _bundle, in_place(damage_zip))
def read_bundle(path: Path) -> object:
    from biril_nm.errors import FileFormatError
    from biril_nm.export.lava.bundle import run_lava

    try:  # the bundle stands alone, so its errors are its own
        return run_lava.load_network(path)
    except run_lava.InputError as error:
        raise FileFormatError(str(error)) from error
