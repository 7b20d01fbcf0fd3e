"""Unsupervised features by on-chip integers against filters that learned nothing.

    python examples/stdp_features.py --data-root DATA --seeds 3      # MNIST, all 70,000 images
    python examples/stdp_features.py --quick                         # scikit-learn's digits, seconds

Filters learn by the rule 'offset' (8-bit weights, 7-bit traces) from unlabelled images; a ridge readout
on the pooled first-spike times shows what they are worth.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from biril_nm.data import load_data
from biril_nm.studies.features.study import BankResult, StudyConfig, compare_banks

QUICK = StudyConfig(n_unlabelled=1437, labels=(100, None), draws=5, n_tune=600, upscale=2)


def spread(values: list[float]) -> str:
    """Mean and range in percent."""
    low, mean, high = (100 * f(values) for f in (np.min, np.mean, np.max))
    return f"{mean:.2f} ({low:.2f}..{high:.2f})"


def show(runs: list[list[BankResult]], counts: tuple[int | None, ...], n_train: int) -> None:
    """One row per bank, then the margins between the first two."""
    heads = [f"{n_train if count is None else count} labels" for count in counts]
    row = "{:<30}" + "{:>23}" * len(heads) + "{:>23}  {}"
    print(row.format("filters", *heads, "neurons that spike, %", "tuned"))
    for bank in zip(*runs):
        cells = [spread([run.accuracy[i] for run in bank]) for i in range(len(heads))]
        notes = "; ".join(dict.fromkeys(run.note for run in bank))
        print(row.format(bank[0].name, *cells, spread([run.spiking for run in bank]), notes))
    for index in (1, 2):
        learned, control = [run[0] for run in runs], [run[index] for run in runs]
        margin = [a.accuracy[0] - b.accuracy[0] for a, b in zip(learned, control)]
        share = [a.spiking / b.spiking for a, b in zip(learned, control)]
        print(
            f"learned minus {control[0].name}: {spread(margin)} points at {heads[0]}, "
            f"with {spread(share)} % of its spikes"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()

    data = load_data("digits") if args.quick else load_data("mnist", args.data_root)
    config = QUICK if args.quick else StudyConfig()
    began = time.perf_counter()
    runs = []
    for seed in range(args.seeds):
        runs.append(
            compare_banks(
                data, config, seed, lambda what, s=seed: print(f"seed {s}: {what}", file=sys.stderr)
            )
        )
    print(
        f"{data.name}: {len(data.train)} training and {len(data.test)} test images, "
        f"{config.features.n_filters} filters {config.features.size}x{config.features.size}, "
        f"{args.seeds} seeds, mean (smallest..largest) in percent"
    )
    show(runs, config.labels, len(data.train))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
