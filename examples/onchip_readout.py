"""A readout that the chip learns from nothing, on frozen features of a trained network.

    python examples/onchip_readout.py --quick                                  # digits, seconds
    python examples/onchip_readout.py --data-root DATA --model out/mnist/model.pt

One pass over the samples, one weight update per step, 8-bit weights. Compared with a ridge readout in
floating point on the same spikes, and, weight by weight, with Lava on the first 50 (10) samples.
"""

from __future__ import annotations

import importlib.util
import time

import numpy as np
from onchip_networks import arguments, data_and_network

from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.hardware_sim import simulate
from biril_nm.studies.readout import (
    fresh_readout,
    frozen,
    plastic_readout,
    readout_connection,
    stream,
)
from biril_nm.studies.ridge import fit_ridge

N_LAVA = 50


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--samples", type=int, default=10_000, help="labelled samples to learn from"
    )
    args = parser.parse_args()
    data, graph, coding = data_and_network(args)
    name = readout_connection(graph)
    source = graph.ends[name][0]
    index = np.random.default_rng(0).permutation(len(data.train))[: args.samples]
    labels, spikes = data.train.labels[index], coding.encode(data.train.values(index))

    plastic = plastic_readout(fresh_readout(graph))
    began = time.perf_counter()
    learned = simulate(plastic, stream(plastic, spikes, labels), (), learn=True).graph
    seconds = time.perf_counter() - began
    test = data.test.values(), data.test.labels, coding
    print(
        f"{data.name}: {len(index)} samples learned in {seconds:.1f} s, {len(data.test)} test samples"
    )
    print(f"readout trained with the network: {evaluate_graph(graph, *test).accuracy:.2%}")
    print(
        f"learned on the chip from nothing: {evaluate_graph(frozen(learned), *test).accuracy:.2%}"
    )

    counts = [
        np.asarray(simulate(graph, x, nodes=(source,))[source].s).sum(axis=0)
        for x in (spikes, coding.encode(data.test.values()))
    ]
    ridge = fit_ridge(counts[0].reshape(len(index), -1), labels, data.n_classes)
    accuracy = ridge.accuracy(counts[1].reshape(len(data.test), -1), data.test.labels)
    print(f"ridge readout on the same spikes: {accuracy:.2%}")

    if importlib.util.find_spec("lava") is not None:
        from biril_nm.export.lava.backend import run_lava

        n = 10 if args.quick else N_LAVA
        few = stream(plastic, spikes[:, :n], labels[:n])
        ours = simulate(plastic, few, (), learn=True).graph.plastic[name].weight
        theirs = run_lava(plastic, few, record="s", learn=True).graph.plastic[name].weight
        equal, used = int((ours == theirs).sum()), int((ours != 0).sum())
        print(f"Lava, {n} samples: {equal} of {ours.size} weights equal, {used} of them learned")


if __name__ == "__main__":
    main()
