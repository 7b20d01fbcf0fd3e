"""A trained network meets a changed world and learns it on the chip, from a few labelled samples.

    python examples/onchip_adaptation.py --quick                                  # digits, a minute
    python examples/onchip_adaptation.py --data-root DATA --model out/mnist/model.pt --plot out.png

Images are rotated, noisy, inverted, or seen through dead input lines. Only the readout learns, by the delta
rule on 8-bit weights; samples that it holds out choose the rate and the passes (--one-rate: none are).
Controls: the same network frozen, and the same learning on random features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onchip_networks import arguments, data_and_network, random_network

from biril_nm.data import SHIFTS
from biril_nm.studies.adaptation import Adaptation, measure_adaptation, plot_adaptation
from biril_nm.studies.readout import DeltaConfig


def spread(values: list[float]) -> str:
    """Mean and range in percent."""
    low, mean, high = (100 * f(values) for f in (np.min, np.mean, np.max))
    return f"{mean:5.1f} ({low:.1f}..{high:.1f})"


def show(name: str, runs: list[Adaptation]) -> None:
    """The table of one change."""
    print(f"\n{SHIFTS[name].text}: before {spread([r.before for r in runs])}")
    row = "{:<34}" + "{:>22}" * len(runs[0].counts)
    print(row.format("samples per class", *runs[0].counts))
    print(row.format("frozen", *[spread([r.frozen for r in runs])] * len(runs[0].counts)))
    for text, field in (
        ("learned on the chip", "learned"),
        ("random features, learned on chip", "random"),
        ("ridge readout, floating point", "ridge"),
    ):
        cells = [spread([getattr(r, field)[i] for r in runs]) for i in range(len(runs[0].counts))]
        print(row.format(text, *cells))
    back = [np.mean([r.recovered(i) for r in runs]) for i in range(len(runs[0].counts))]
    print(row.format("share of the loss recovered, %", *(f"{100 * share:.0f}" for share in back)))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=None, help="default: 3, quick: 1")
    parser.add_argument("--shifts", nargs="+", default=list(SHIFTS), choices=list(SHIFTS))
    parser.add_argument("--test", type=int, default=2500, help="test images to measure on")
    parser.add_argument("--plot", default=None)
    parser.add_argument("--one-rate", action="store_true", help="all passes, no samples held out")
    args = parser.parse_args()
    args.seeds = args.seeds or (1 if args.quick else 3)
    data, graph, coding = data_and_network(args)
    data = replace(data, test=data.test.head(args.test))
    config = DeltaConfig(validate=not args.one_rate)
    print(
        f"{data.name}, {len(data.test)} test images, {args.seeds} seeds; accuracy in %, mean (range)"
    )
    results: dict[str, list[Adaptation]] = {}
    for name in args.shifts:
        results[name] = [
            measure_adaptation(
                graph,
                random_network(data, coding, seed),
                data,
                coding,
                SHIFTS[name],
                seed=seed,
                config=config,
            )
            for seed in range(args.seeds)
        ]
        show(name, results[name])
    if args.plot:
        plot_adaptation(results, args.plot)


if __name__ == "__main__":
    main()
