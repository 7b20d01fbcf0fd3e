"""EventMix: a part of each recording, in space and time, is replaced by that of another one.

Source: EventMix of BrainCog. With probability p a second sample is drawn, and lambda ~ Beta(2, 2). A mask
over time and place, alike for both polarities, is where the sum of n Gaussians of random weight, centre and
width is above its quantile 1 - lambda. The label follows the counts of events: with r1 and r2 the shares
of the events of the first and the second sample inside of the mask, it is ``keep y1 + (1 - keep) y2`` with
``keep = (1 - r1) / (1 - r1 + r2)``. Here the label is drawn, y1 with probability keep, which has the
cross-entropy of the mixture on average.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["event_mask", "kept_share", "mix"]

N_GAUSSIANS = 3
BETA = 2.0
SMALLEST = 0.1  # width of a Gaussian: max(U(0, 1), 0.1) * 0.5 of the axis
HALF = 0.5


def event_mask(
    shape: tuple[int, int, int], share: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Where the second sample goes: ``share`` of the volume (steps, rows, columns)."""
    total = np.zeros(shape)
    for _ in range(N_GAUSSIANS):
        weight = random.random()
        exponent = np.zeros(shape)
        for axis, length in enumerate(shape):
            centre = random.random() * length
            width = max(random.random(), SMALLEST) * HALF * length
            place = ((np.arange(length) - centre) / width) ** 2
            exponent += place.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        total += weight * np.exp(-exponent / 2)
    count = round(share * total.size)
    chosen = np.zeros(total.size, dtype=bool)
    chosen[np.argsort(-total, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(shape)


def kept_share(
    first: NDArray[np.uint8], second: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> float:
    """Share of the first label: ``(1 - r1) / (1 - r1 + r2)``; 1 if neither has events left."""
    inside = mask[:, None]
    shares = []
    for sample in (first, second):
        events = int(sample.sum(dtype=np.int64))
        shares.append(int((sample * inside).sum(dtype=np.int64)) / events if events else 0.0)
    rest = 1 - shares[0]
    return rest / (rest + shares[1]) if rest + shares[1] else 1.0


def mix(
    first: NDArray[np.uint8], second: NDArray[np.uint8], random: np.random.Generator
) -> tuple[NDArray[np.uint8], bool]:
    """The mixed frames, and whether they keep the label of the first sample.

    Shape:
        first, second ``(n_steps, polarities, rows, columns)``.
    """
    n_steps, _, rows, columns = first.shape
    mask = event_mask((n_steps, rows, columns), random.beta(BETA, BETA), random)
    keeps = random.random() < kept_share(first, second, mask)
    return np.where(mask[:, None], second, first), bool(keeps)
