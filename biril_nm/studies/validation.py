"""Choose how much to learn: by samples that learning does not see, and only where it helps.

Learning is tried at a few rates, and looked at after 1, 2, 4, ... passes over the samples. What is chosen is
right most often on samples that were held out; the frozen network is one of the choices, and loses its place
only to one that is better by more than the noise of the best of so many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adapted", "Fold", "Tried", "choose", "folds_of", "pass_marks", "share_at_limits"]

N_FOLDS = 4  # a quarter of the samples is held out
ENOUGH = 150  # held-out samples: three points of standard error near 80 %
FEWEST_PER_CLASS = 5  # below it a class would hardly be seen while some of it is held out
BY_CHANCE = (
    0.05  # how often learning may be chosen where it is exactly as good as the frozen network
)
FLIPS = 1000
SATURATED, MEMORISED, LEARNABLE = 0.05, 0.1, 0.9  # shares above or below which advice is given

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """Samples to learn from, and samples to measure on, by index."""

    known: NDArray[np.int64]
    held: NDArray[np.int64]

    @property
    def held_out(self) -> bool:
        """Whether the measured samples are others."""
        return not np.isin(self.held, self.known).any()


@dataclass(frozen=True)
class Tried:
    """One rate, looked at after some passes.

    Attributes:
        halvings: of the third factors.
        passes: how often each sample was shown; 0: the frozen network.
        right: for each measured sample, whether the prediction was right.
    """

    halvings: int
    passes: int
    right: Right = field(default_factory=lambda: np.zeros(0, bool), repr=False)

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(self.right.mean())


def folds_of(labels: NDArray[np.int64], seed: int) -> list[Fold]:
    """Balanced parts of the samples, each held out once, until :data:`ENOUGH` are held out.

    The only sample of a class is never held out. With fewer than :data:`FEWEST_PER_CLASS` samples per class
    on average nothing is: one fold that measures on the samples it learns from.
    """
    everything = np.arange(len(labels))
    _, kinds, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(labels) < FEWEST_PER_CLASS * max(1, len(counts)):
        return [Fold(everything, everything)]
    order = np.random.default_rng([seed, 2]).permutation(np.flatnonzero(counts[kinds] > 1))
    by_class = order[np.argsort(labels[order], kind="stable")]
    parts = [np.sort(by_class[start::N_FOLDS]) for start in range(N_FOLDS)]
    used = min(N_FOLDS, -(-ENOUGH // len(parts[0])))
    return [Fold(np.setdiff1d(everything, held), held) for held in parts[:used]]


def pass_marks(passes: int) -> list[int]:
    """Passes after which learning is looked at: 1, 2, 4, ... and the last."""
    return [*(1 << k for k in range(passes.bit_length()) if 1 << k < passes), passes]


def choose(frozen: Tried, tried: Iterable[Tried], held_out: bool = True) -> Tried:
    """The most accurate, of equals the first; frozen unless it is better by more than noise.

    Where networks are exactly as good, each sample could as well have been won as lost: its differences
    from the frozen network change sign together, in :data:`FLIPS` random draws. A lead that the best of
    all reaches in fewer than :data:`BY_CHANCE` of them is no noise, however many were tried. On samples
    that were learned from, which say little about chance, one standard error suffices: the root of the
    samples where one is right and the other wrong.

    Its ``accuracy`` is the highest of all on the samples that chose it: on others expect somewhat less.
    """
    looks = list(tried)
    best = max(looks, key=lambda each: each.accuracy)
    gains = np.stack([each.right.astype(np.float32) - frozen.right for each in looks])
    lead = int(best.right.sum()) - int(frozen.right.sum())
    if not held_out:
        return best if lead > np.sqrt((best.right != frozen.right).sum()) else frozen
    signs = np.random.default_rng(0).integers(0, 2, (FLIPS, len(frozen.right)), np.int8) * 2 - 1
    by_chance = (signs.astype(np.float32) @ gains.T).max(axis=1) >= lead
    return best if (1 + by_chance.sum()) / (1 + FLIPS) < BY_CHANCE else frozen


def share_at_limits(weight: NDArray[Any], least: int, most: int) -> float:
    """Share of the weights at the least or the most; a limit of 0, for weights of one sign, is none."""
    low, high = (least < 0) & (weight <= least + 1), (most > 0) & (weight >= most - 1)
    return float((low | high).mean())


@dataclass(frozen=True)
class Adapted:
    """What was tried, and what was chosen.

    Attributes:
        chosen: the choice; ``passes`` is 0 if the frozen network was. The samples of its accuracy chose
            it, so that the accuracy on others is somewhat lower.
        frozen: the network without learning, on the same samples.
        tried: all rates and passes.
        held_out: whether samples that learning did not see decided.
        given: accuracy 0..1 on the samples that the final network learned from.
        saturated: share of the weights at a limit, 0..1.
    """

    chosen: Tried
    frozen: Tried
    tried: tuple[Tried, ...]
    held_out: bool
    given: float = 0.0
    saturated: float = 0.0

    @property
    def learned(self) -> bool:
        """Whether the weights changed."""
        return self.chosen.passes > 0

    def advice(self) -> tuple[str, ...]:
        """Which setting to change to get more, most important first."""
        found = []
        if self.tried and not self.held_out:
            found.append(
                f"fewer than {FEWEST_PER_CLASS} samples per class on average: none could be held out. "
                f"Give more samples"
            )
        if not self.learned:
            return (
                *found,
                f"no rate was better than the frozen network by more than noise on "
                f"{len(self.frozen.right)} samples: nothing was changed. Give more samples per class, or "
                f"let the layers below learn too (biril train --from, or biril chip-train)",
            )
        if self.given < LEARNABLE:
            found.append(
                f"only {self.given:.1%} of the samples that it learned from are right: the layers below "
                f"do not show the classes. Let them learn too (biril train --from, or biril chip-train)"
            )
        if self.held_out and self.given - self.chosen.accuracy > MEMORISED:
            found.append("samples that it learned from are right more often. Give more of them")
        same = [each for each in self.tried if each.halvings == self.chosen.halvings]
        if len(same) > 1 and same[-1] is self.chosen and same[-1].accuracy > same[-2].accuracy:
            found.append("it was still rising after the last pass. Raise replays and presentations")
        if len(same) > 1 and same[0] is self.chosen and same[-1] is self.tried[-1]:
            found.append("it fell after the first pass at the lowest rate. Raise halvings")
        if self.saturated > SATURATED:
            found.append(
                f"{self.saturated:.1%} of the weights are at a limit. Raise halvings, or start from "
                f"fresh_readout with a lower vth"
            )
        return tuple(found)

    def summary(self) -> str:
        """What was chosen and why, and what to change, in a few lines."""
        kind = "held-out" if self.held_out else "given"
        best = f" (the best of {len(self.tried)} on them)" if self.learned and self.tried else ""
        what = (
            f"learned in {self.chosen.passes} passes, {self.chosen.halvings} halvings"
            if self.learned
            else "nothing learned"
        )
        lines = [
            f"{what}: {self.chosen.accuracy:.1%} of {len(self.frozen.right)} {kind} samples right{best}, "
            f"frozen {self.frozen.accuracy:.1%}",
            *self.advice(),
        ]
        return "\n".join(lines)
