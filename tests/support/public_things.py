"""Small objects that good calls of public functions need, made once, and objects passed by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import snntorch as snn
import torch
from torch import nn

from biril_nm import data, export, hardware_sim, models
from biril_nm.coding import Coding
from biril_nm.export import nir_files
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.plastic import make_plastic

__all__ = ["WRONG", "Things"]

WRONG: dict[str, Any] = {
    "a name": "x.npz",
    "None": None,
    "a fraction": 2.5,
    "below zero": -1,
    "huge": 2**40,
    "very huge": 2**70,
    "NaN": float("nan"),
    "an object": object(),
    "a list": [],
    "bytes": b"",
    "a class": dict,
    "a dict": {1: object()},
    "a module": nn.Linear(3, 2),
    "texts": np.array(["a", "b"]),
    "objects": np.array([None, object()]),
    "ragged": [[1], [1, 2]],
    "many dimensions": np.zeros((1,) * 9),
    "NUL": "a\0b",
    "wide": np.full((2, 2), 2**62),
}


class Things:
    """A graph with its run, a network with its data, and a file of each."""

    def __init__(self, folder: Path) -> None:
        nodes = {
            "in": Input((3,)),
            "fc": Dense(2 * np.arange(6).reshape(2, 3) + 30),
            "lif": Neurons((2,), vth=1),
            "out": Output(),
        }
        self.folder = folder
        self.graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"), ("lif", "out")))
        self.learner = make_plastic(self.graph, "fc", "pair")
        self.spikes = np.ones((4, 2, 3), np.uint8)
        self.labels = np.array([0, 1])
        self.coding = Coding("spikes", 4)
        self.run = hardware_sim.simulate(self.graph, self.spikes, ("s", "v"))
        self.session = hardware_sim.Simulator(self.graph, batch=2)
        self.stream = hardware_sim.Simulator(self.graph, chip_time=True, sample_steps=4)
        self.placement = hardware_sim.map_to_chip(self.graph)
        self.activity = hardware_sim.Activity.of(self.graph, self.run, self.spikes)
        self.config = models.ModelConfig((1, 4, 4), 2, channels=(2,), hidden=(3,))
        self.net = models.build_model("convnet", self.config)
        lif = snn.Leaky(0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False)
        self.module = nn.Sequential(nn.Linear(3, 2), lif)
        self.nir = export.to_nir(self.module, torch.ones(1, 3))
        split = data.Split(np.ones((4, 1, 4, 4), np.uint8), np.array([0, 1, 0, 1]), 16)
        self.data = data.DataSet("own", split, split, 2)
        self.loaders = data.make_loaders(self.data)
        self.graph.save(folder / "g.loihi.npz")
        self.run.save(folder / "run.npz")
        models.save(self.net, folder / "model.pt")
        models.save_weights(self.net, folder / "weights.pt")
        models.save(self.module, folder / "own.pt")
        nir_files.write_nir(folder / "n.nir", self.nir)
        export.write_netx(self.graph, folder / "n.net")
