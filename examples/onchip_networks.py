"""Networks for the on-chip examples: one trained, one with random features of the same shape."""

from __future__ import annotations

import argparse

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import Batches, DataSet, load_data, make_loaders
from biril_nm.export import lower, to_nir
from biril_nm.hw_graph import LoihiGraph

N_TRAIN = 10_000  # images for a network trained on the spot: a minute or two on two cores


def arguments(text: str | None) -> argparse.ArgumentParser:
    """Options that all on-chip examples share."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--data-root", default=None, help="folder of MNIST; default: BIRIL_DATA")
    parser.add_argument("--model", default=None, help="model.pt; default: train one here")
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits")
    return parser


def data_and_network(args: argparse.Namespace) -> tuple[DataSet, LoihiGraph, Coding]:
    """The data set, and a trained network in integers."""
    data = load_data("digits") if args.quick else load_data("mnist", args.data_root)
    if args.model:
        net = bnm.load(args.model)
    else:
        net = bnm.build_model("convnet", bnm.ModelConfig(input_shape=data.input_shape), seed=0)
        config = bnm.TrainConfig(schedule="B", epochs=10 if args.quick else 2)
        bnm.fit(net, make_loaders(data.head(N_TRAIN, 1000)), config)
    return data, lower(to_nir(net, dt_s=1e-4)), net.config.coding


def random_network(data: DataSet, coding: Coding, seed: int) -> LoihiGraph:
    """Untrained features: random weights, BatchNorm set by unlabelled images alone."""
    import torch

    config = bnm.ModelConfig(input_shape=data.input_shape, coding=coding)
    net = bnm.build_model("convnet", config, seed=seed)
    net.train()
    with torch.no_grad():
        for values, _ in Batches(data.train.head(1000), 100):
            net(torch.from_numpy(coding.to_float(coding.encode(values))))
    net.eval()
    return lower(to_nir(net, dt_s=1e-4))
