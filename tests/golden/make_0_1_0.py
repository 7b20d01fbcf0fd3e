"""Write the golden files of version 0.1.0, with that version: what it wrote must load for ever.

    git worktree add DIR 42f7a39    # the last commit of version 0.1.0
    PYTHONPATH=DIR python tests/golden/make_0_1_0.py

``v0_1_0/expected.npz`` holds what 0.1.0 computed from the files, and the versions that made them. Do not
run this with a later version: the files would then say nothing about the past.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import tomli_w
import torch
from biril_nm.export.loihi_to_nir import exact_nir
from biril_nm.plastic import make_plastic

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import load_data, make_loaders
from biril_nm.export import lower, to_nir, write_netx
from biril_nm.export.nir_files import write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.training.callbacks import Callback
from biril_nm.training.run_config import RunConfig

FOLDER = Path(__file__).parent / "v0_1_0"
N_STEPS, BATCH = 12, 3


class Interrupt(Callback):
    """Ends the run after its second epoch, as a user with Ctrl-C does."""

    def on_epoch_end(self, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt


def tagged_rule() -> LearningRule:
    return LearningRule(
        name="tagged_pair",
        dw=(Term(1, -4, ("x1", "y0")), Term(-1, -4, ("y1", "x0")), Term(1, -7, ("u", "t"))),
        dt=(Term(1, -3, ("x1", "y0")),),
        dd=(Term(1, -5, ("y1", "x0")),),
        traces={"x1": Trace(24, 6), "y1": Trace(20.5, 9)},
        t_epoch=2,
        decimation=1,
        seed=7,
    )


def every_kind() -> LoihiGraph:
    """Dense, Conv and Sparse; a loop, a delay, two rules, modulators, tags and metadata."""
    random = np.random.default_rng(0)
    import scipy.sparse

    def weights(*shape, low=-100, high=120):
        return random.integers(low, high, shape)

    mask = random.random((8, 48)) < 0.4
    sparse = scipy.sparse.csr_matrix(weights(8, 48) * mask)
    n_synapses = sparse.nnz
    nodes = {
        "in": Input((1, 6, 6)),
        "grey": Input((5,), message_bits=4),
        "conv": Conv(weights(3, 1, 3, 3, low=-40), padding=(0, 0), weight_exp=1),
        "c": Neurons((3, 4, 4), vth=random.integers(150, 400, (3, 4, 4)), du=1500, dv=300),
        "sparse": Sparse(
            sparse,
            rule=tagged_rule(),
            tag_t=random.integers(-20, 20, n_synapses),
            tag_d=random.integers(0, 9, n_synapses),
        ),
        "side": Dense(weights(8, 5, low=-10, high=12), weight_exp=-1, weight_bits=6, delay=2),
        "h": Neurons((8,), vth=180, dv=200, bias_mant=random.integers(-3, 9, 8), bias_exp=6),
        "loop": Dense(weights(8, 8, low=-30, high=20), delay=1),
        "fc": Dense(weights(4, 8, low=0), sign_mode="excitatory"),
        "o": Neurons((4,), vth=300, du=2000, dv=100),
        "out": Output(),
    }
    edges = (
        ("in", "conv"), ("conv", "c"), ("c", "sparse"), ("sparse", "h"), ("grey", "side"), ("side", "h"),
        ("h", "loop"), ("loop", "h"), ("h", "fc"), ("fc", "o"), ("o", "out"),
    )  # fmt: skip
    graph = LoihiGraph(nodes, edges, {"dt_s": 1e-3, "note": "golden", "scale": {"h": 64.0}})
    return make_plastic(graph, "fc", "delta")


def two_layers() -> LoihiGraph:
    """A chain that NIR and netx can hold."""
    random = np.random.default_rng(3)
    nodes = {
        "in": Input((10,)),
        "fc1": Dense(2 * random.integers(-30, 60, (8, 10))),
        "n1": Neurons((8,), vth=90, du=2000, dv=128),
        "fc2": Dense(2 * random.integers(-30, 60, (3, 8))),
        "n2": Neurons((3,), vth=80, du=1000, dv=256),
        "out": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)), {"dt_s": 1e-3})


def feeds(graph: LoihiGraph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        name: random.integers(0, max(2, 1 << node.message_bits), (N_STEPS, BATCH, *node.shape))
        for name, node in graph.inputs.items()
    }


def train(folder: Path, *callbacks: Callback) -> bnm.BirilNet:
    """Three epochs on the digits, as ``biril train`` runs them."""
    net = bnm.ModelConfig(hidden=(12, 10), coding=Coding("direct", 3, 8))
    train = bnm.TrainConfig(
        schedule="BSH", epochs=3, lr=4e-3, plastic="conv+fc", device="cpu",
        tensorboard=False, curves=False,
    )  # fmt: skip
    run = RunConfig(dataset="digits", model="mlp", batch_size=64, net=net, train=train)
    data = load_data("digits", None, run.seed)
    run = replace(run, net=replace(net, input_shape=data.input_shape, n_classes=data.n_classes))
    folder.mkdir(parents=True)
    run.write(folder / "config.toml")
    trained = bnm.build_model("mlp", run.net, run.seed)
    loaders = make_loaders(data, run.batch_size, run.seed, run.crop_pad)
    with suppress(KeyboardInterrupt):
        bnm.fit(trained, loaders, run.train, callbacks=callbacks, out_dir=folder)
    return trained.eval()


def main() -> None:
    if bnm.__version__ != "0.1.0":
        sys.exit(f"this is biril_nm {bnm.__version__}; set PYTHONPATH to a checkout of 0.1.0")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    expected = {}

    graph = every_kind()
    graph.save(FOLDER / "every_kind.loihi.npz")
    x = feeds(graph)
    np.savez_compressed(FOLDER / "every_kind_spikes.npz", **x)
    trace = simulate(graph, x, record="s,u,v")
    for name, node in trace.items():
        for variable, array in node.variables().items():
            expected[f"every_kind.{name}.{variable}"] = array
    learned = simulate(graph, x, record="s,w,t", learn=True)
    learned.save(FOLDER / "learning_trace.npz")
    for name, node in learned.graph.plastic.items():
        weight = node.weight if isinstance(node, Dense) else node.weight.data
        expected[f"learned.{name}.weight"] = weight
        if node.tag_t is not None:
            expected[f"learned.{name}.tag_t"] = node.tag_t

    config = bnm.ModelConfig(
        channels=(3,), hidden=(8,), coding=Coding("direct", 3, 8), neuron="lif"
    )
    net = bnm.build_model("convnet", config, seed=3)
    net.train()
    data = load_data("digits")
    with torch.no_grad():  # running means and deviations of the normalisation
        net(
            torch.from_numpy(
                config.coding.to_float(config.coding.encode(data.train.head(64).values()))
            )
        )
    net.eval()
    bnm.save(net, FOLDER / "model.pt")
    spikes = config.coding.encode(data.test.head(BATCH).values())
    np.savez_compressed(FOLDER / "spikes.npz", spikes=spikes, labels=data.test.head(BATCH).labels)
    with torch.no_grad():
        expected["model.logits"] = net(
            torch.from_numpy(config.coding.to_float(spikes))
        ).scores.numpy()

    lowered = lower(to_nir(net, dt_s=1e-4))
    lowered.save(FOLDER / "lowered.loihi.npz")
    trace = simulate(lowered, spikes, record="s,v")
    trace.save(FOLDER / "trace.npz")
    simulate(lowered, spikes, record="s", record_to=FOLDER / "trace")
    for name, node in trace.items():
        expected[f"lowered.{name}.s"], expected[f"lowered.{name}.v"] = node.s, node.v

    chain = two_layers()
    chain.save(FOLDER / "chain.loihi.npz")
    write_nir(FOLDER / "chain.nir", exact_nir(chain))
    write_netx(chain, FOLDER / "chain.net")
    x = np.random.default_rng(2).integers(0, 2, (N_STEPS, BATCH, 10))
    expected["chain.input"], expected["chain.s"] = x, simulate(chain, x)["n2"].s

    rule = tagged_rule().to_dict()
    (FOLDER / "rule.json").write_text(json.dumps(rule, indent=1), encoding="utf-8")
    (FOLDER / "rule.toml").write_text(tomli_w.dumps(rule), encoding="utf-8")
    train(FOLDER / "run", Interrupt())
    with tempfile.TemporaryDirectory() as scratch:
        whole = train(Path(scratch) / "run")  # the same run, not interrupted
    with torch.no_grad():
        expected["run.logits"] = whole(
            torch.from_numpy(config.coding.to_float(spikes))
        ).scores.numpy()

    packages = ("torch", "snntorch", "nir", "numpy", "scipy", "h5py", "numba")
    versions = {name: version(name) for name in packages}
    versions |= {"biril-nm": bnm.__version__, "python": platform.python_version()}
    expected["versions"] = np.array(json.dumps(versions))
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
