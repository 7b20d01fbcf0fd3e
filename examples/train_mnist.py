"""Train BIRIL on MNIST, on a GPU if there is one, and leave everything ready for export.

    python examples/train_mnist.py --data-root DATA --out out/mnist      # full run
    python examples/train_mnist.py --quick                               # digits, seconds

DATA is the folder with MNIST/raw, as torchvision lays it out. Interrupted? Run it again: it resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import biril_nm as bnm
from biril_nm.data import load_data, make_loaders
from biril_nm.training import Callback


class PrintEpochs(Callback):
    """One line per epoch."""

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        accuracy = record["test_accuracy"]
        print(f"epoch {record['epoch']} {record['phase']}: test accuracy {accuracy:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--out", type=Path, default=Path("out/mnist"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()

    data = load_data("digits") if args.quick else load_data("mnist", args.data_root)
    if args.quick:
        data = data.head(400, 200)
    net = bnm.build_model(
        "convnet",
        bnm.ModelConfig(input_shape=data.input_shape, n_classes=data.n_classes),
        seed=0,
    )
    config = bnm.TrainConfig(
        schedule="BSH" if args.quick else "1:6:2",
        epochs=3 if args.quick else 9,
        device=args.device,
    )
    bnm.fit(
        net,
        make_loaders(data, batch_size=64, seed=0),
        config,
        callbacks=[PrintEpochs()],
        out_dir=args.out,
        resume=True,
    )
    print(f"saved {args.out / 'model.pt'}; next: biril-export {args.out / 'model.pt'} --to lava")


if __name__ == "__main__":
    main()
