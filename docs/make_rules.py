"""Draw the learning windows of docs/rules.md (python docs/make_rules.py).

Every point is measured: spike pairs run through the integer simulator, mean over 32 runs.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from biril_nm.learning.rules import (
    DELTA,
    OFFSET,
    OJA,
    PAIR,
    PROP,
    REWARD_STDP,
    THREE_FACTOR,
    pair_rule,
)
from biril_nm.studies.learning_window import Protocol, measure_window

FOLDER = Path(__file__).parent / "rules"
LAGS = list(range(-30, 31))
BIRIL = pair_rule(
    a_plus=4, a_minus=-4, tau_plus=1.44, tau_minus=99.5, name="pair, BIRIL's constants"
)
PAIR_LABEL, FACTOR_LABEL = (
    "post spike after pre spike, steps",
    "third factor after pre spike, steps",
)
CURVES = {
    "pair": (PAIR_LABEL, [("pair", PAIR, Protocol()), ("BIRIL's taus", BIRIL, Protocol())]),
    "offset": (PAIR_LABEL, [("offset", OFFSET, Protocol())]),
    "oja": (PAIR_LABEL, [(f"w = {w}", OJA, Protocol(weight=w)) for w in (32, 128, 224)]),
    "prop": (PAIR_LABEL, [(f"w = {w}", PROP, Protocol(weight=w)) for w in (32, 128, 224)]),
    "reward_stdp": (
        PAIR_LABEL,
        [
            ("reward 127, 2 steps later", REWARD_STDP, Protocol(third=(127, 0), third_delay=2)),
            ("reward 127, 22 steps later", REWARD_STDP, Protocol(third=(127, 0), third_delay=22)),
            ("punishment 127, 2 steps later", REWARD_STDP, Protocol(third=(0, 127), third_delay=2)),
            ("no reward", REWARD_STDP, Protocol(settle=24)),
        ],
    ),
    "delta": (
        FACTOR_LABEL,
        [
            ("wanted spike that did not come", DELTA, Protocol(third=(1, 0))),
            ("spike too many", DELTA, Protocol(third=(0, 1))),
            ("wanted spike that came", DELTA, Protocol(third=(1, 1))),
        ],
    ),
    "three_factor": (
        FACTOR_LABEL,
        [
            (f"M = {m}", THREE_FACTOR, Protocol(third=(max(m, 0), max(-m, 0))))
            for m in (64, 16, -64)
        ],
    ),
}


def draw(name: str) -> Path:
    """One picture: mean weight change over lag."""
    label, curves = CURVES[name]
    figure, axes = plt.subplots(figsize=(4.8, 2.8), dpi=90)
    for (text, rule, protocol), style in zip(curves, ("o-", "s-", "^-", "x-")):
        axes.plot(LAGS, measure_window(rule, LAGS, protocol), style, ms=2.5, lw=0.8, label=text)
    axes.axhline(0, color="0.7", lw=0.6, zorder=0)
    axes.axvline(0, color="0.7", lw=0.6, zorder=0)
    axes.set_xlabel(label, fontsize=8)
    axes.set_ylabel("weight change (of 255)", fontsize=8)
    axes.set_xticks(np.arange(-30, 31, 10))
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6.5, frameon=False, loc="best")
    figure.tight_layout()
    target = FOLDER / f"{name}.png"
    figure.savefig(target, metadata={"Software": None})
    plt.close(figure)
    return target


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in CURVES:
        draw(each)
