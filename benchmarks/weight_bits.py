"""Accuracy of a trained model after lowering, for several weight widths, beside its float accuracy.

    python benchmarks/weight_bits.py out/mnist/model.pt --dataset mnist --data-root DATA

No retraining and no calibration data: post-training lowering as ``biril export`` does it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import biril_nm as bnm
from biril_nm.data import Batches, load_data
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.export import lower, to_nir
from biril_nm.training import evaluate


def main() -> None:
    """Print one line per width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--bits", default="8,6,5,4,3")
    args = parser.parse_args()

    net = bnm.load(args.model)
    test = load_data(args.dataset, args.data_root).test
    exact = evaluate(net, Batches(test, 250)).accuracy
    print(f"{args.dataset}, {len(test):,} test samples")
    print(f"float   {exact:.2%}")
    for bits in (int(text) for text in args.bits.split(",")):
        graph = lower(to_nir(net), weight_bits=bits)
        found = evaluate_graph(graph, test.values(), test.labels, net.config.coding)
        lost = 100 * (exact - found.accuracy)
        print(f"{bits} bits  {found.accuracy:.2%}  ({lost:+.2f} points lost)", flush=True)


if __name__ == "__main__":
    main()
