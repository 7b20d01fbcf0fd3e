"""What the paper reports, to be shown beside measured numbers, never mixed with them.

Test accuracies in % of BIRIL's tables of methods and of ratios S:B:H: a ResNet, full training sets, one run
each. BIRIL's published code constructs no STDP learner; see docs/results.md. Its tables also quote a system
that has no method here, STDP-BW-GS.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["OTHERS", "PAPER", "others_text"]

PAPER: Mapping[str, Mapping[str, float]] = {
    "mnist": {
        "BIRIL": 99.30, "STDP-STBP": 99.26, "STDP": 89.16,
        "1:8:3": 99.22, "1:6:2": 99.30, "1:4:1": 99.28, "2:6:1": 99.29, "3:8:1": 99.23,
    },
    "cifar10": {
        "BIRIL": 93.40, "STDP-STBP": 93.60, "STDP": 42.23,
        "1:8:3": 93.40, "1:6:2": 93.36, "1:4:1": 93.21, "2:6:1": 93.08, "3:8:1": 92.96,
    },
    "cifar100": {
        "BIRIL": 70.89, "STDP-STBP": 72.25, "STDP": 11.54,
        "1:8:3": 70.89, "1:6:2": 70.48, "1:4:1": 70.30, "2:6:1": 69.70, "3:8:1": 69.40,
    },
    "dvs128_gesture": {
        "BIRIL": 95.49, "STDP-STBP": 94.80, "STDP": 24.31,
        "1:8:3": 87.50, "1:6:2": 88.89, "1:4:1": 89.93, "2:6:1": 95.49, "3:8:1": 89.58,
    },
}  # fmt: skip

OTHERS: Mapping[str, Mapping[str, float]] = {
    "STDP-BW-GS": {"mnist": 99.24, "cifar10": 89.14, "cifar100": 54.10, "dvs128_gesture": 86.81}
}
"""Systems that the paper quotes and that no method here is, with their accuracies by data set."""


def others_text(dataset: str) -> list[str]:
    """A line for each of :data:`OTHERS` that has a number for this data set."""
    return [
        f"the paper quotes {name}, which is not run here: {values[dataset]:.2f} %"
        for name, values in OTHERS.items()
        if dataset in values
    ]
