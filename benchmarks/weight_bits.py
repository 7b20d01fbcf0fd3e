"""Accuracy of a trained model with few bits per weight: lowered as it is, and trained on the integers.

    python benchmarks/weight_bits.py out/mnist/model.pt --dataset mnist --epochs 5 --out out/bits

Lowered: as ``biril export`` does it, without calibration data (graded input keeps 8 bits; mse below 5 bits).
Trained: ``biril_nm.training.integers.quantized`` of the model, phase B. With ``--out`` each row is kept, and
an interrupted run goes on where it was, in the middle of a row too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import biril_nm as bnm
from biril_nm.data import Batches, DataSet, load_data, make_loaders
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.export import lower, to_nir
from biril_nm.hw_graph import LoihiGraph
from biril_nm.models import BirilNet
from biril_nm.training import TrainConfig, evaluate, fit
from biril_nm.training.integers import quantized
from biril_nm.training.integers.from_float import TERNARY, learning_rate

ROWS = "rows.jsonl"


def main() -> None:
    """Print one line per width."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--bits", default=f"8,6,5,4,3,2,{TERNARY}")
    parser.add_argument(
        "--epochs", type=int, default=0, help="of training on the integers; 0: none"
    )
    parser.add_argument("--lr", type=float, default=None, help="default: by bits")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--crop-pad", type=int, default=0)
    parser.add_argument("--train-samples", type=int, default=None)
    parser.add_argument("--test-samples", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()

    data = load_data(args.dataset, args.data_root)
    n_train, n_test = len(data.train), len(data.test)
    data = data.head(args.train_samples or n_train, args.test_samples or n_test)
    net = bnm.load(args.model)
    exact = evaluate(net, Batches(data.test, 250)).accuracy
    print(f"{args.dataset}, {len(data.test):,} test samples, {args.epochs} epochs on the integers")
    print(f"{'float':8s} {exact:8.2%}")
    print(f"{'bits':8s} {'lowered':>8s} {'trained':>8s} {'lr':>8s} {'seconds':>8s}", flush=True)
    for bits in args.bits.split(","):
        row = _kept(args, bits) or _keep(args, _row(args, net, data, bits))
        trained = (
            f"{row['trained']:8.2%} {row['lr']:8.0e}" if row["trained"] else f"{'-':>8s} {'-':>8s}"
        )
        print(f"{bits:8s} {row['lowered']:8.2%} {trained} {row['seconds']:8.0f}", flush=True)


def _row(args: Any, net: BirilNet, data: DataSet, bits: str) -> dict[str, Any]:
    start = time.perf_counter()
    # The lowering keeps -1, 0 and 1 of the four levels of 2 bits; training uses -2 as well where it may.
    graph = lower(to_nir(net), weight_bits=2 if bits == TERNARY else int(bits))
    row = {"bits": bits, "settings": _settings(args), "lowered": _accuracy(graph, net, data)}
    row |= {"trained": None, "lr": args.lr or learning_rate(bits)}
    if args.epochs:
        student = quantized(net, bits)
        loaders = make_loaders(data, args.batch_size, 0, args.crop_pad)
        config = TrainConfig(schedule="B", epochs=args.epochs, lr=row["lr"], curves=False)
        folder = args.out / bits if args.out else None
        fit(student, (loaders.train, loaders.test), config, out_dir=folder, resume=True)
        row["trained"] = _accuracy(student.graph(), net, data)
    return {**row, "seconds": time.perf_counter() - start}


def _accuracy(graph: LoihiGraph, net: BirilNet, data: DataSet) -> float:
    """On the integer simulator."""
    test = data.test
    return evaluate_graph(graph, test.values(), test.labels, net.config.coding).accuracy


def _settings(args: Any) -> dict[str, Any]:
    return {
        key: str(value) for key, value in sorted(vars(args).items()) if key not in ("bits", "out")
    }


def _kept(args: Any, bits: str) -> dict[str, Any] | None:
    """The row of an earlier run with the same settings."""
    if args.out is None or not (args.out / ROWS).is_file():
        return None
    rows = map(json.loads, (args.out / ROWS).read_text(encoding="utf-8").splitlines())
    same = (row for row in rows if (row["bits"], row["settings"]) == (bits, _settings(args)))
    return next(same, None)


def _keep(args: Any, row: dict[str, Any]) -> dict[str, Any]:
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return row


if __name__ == "__main__":
    main()
