"""Make examples/digits.pt: a small network for scikit-learn's 8 x 8 digits, to try the exporter with at once.

    python examples/make_digits.py                                  # a minute on one core
    biril export examples/digits.pt --to lava -o out/digits-lava

1,437 digits to learn from, 360 to test on; 15 epochs of STBP, one seed: 355 of the test digits are right in
float, 353 on integers. The file holds weights and their configuration, no code. Other machines sum floats in
another order and end in somewhat different weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import biril_nm as bnm
from biril_nm.data import Batches, load_data, make_loaders
from biril_nm.training import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("digits.pt"))
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()
    data = load_data("digits")
    config = bnm.ModelConfig(input_shape=data.input_shape, channels=(8, 16), hidden=(64,))
    net = bnm.build_model("convnet", config, seed=0)
    bnm.fit(net, make_loaders(data, 32), bnm.TrainConfig(schedule="B", epochs=args.epochs, lr=4e-3))
    bnm.save(net, args.out, force=True)
    accuracy = evaluate(net, Batches(data.test, 250)).accuracy
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {accuracy:.2%} of the test digits right")


if __name__ == "__main__":
    main()
