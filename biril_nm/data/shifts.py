"""Changed worlds: images rotated, noisy, inverted, or seen through dead input lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Seed, checked, unknown_name
from biril_nm.errors import ConfigError

__all__ = ["SHIFTS", "Shift", "get_shift"]

MAX_AMOUNT = 360  # degrees
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Shift:
    """One kind of change.

    Attributes:
        name: registry name.
        text: what it does, with its default amount.
        amount: default amount.
        change: ``(values, amount, seed, draw) -> values``.
    """

    name: str
    text: str
    amount: float
    change: Callable[[Images, float, int, int], Images]

    @checked
    def __call__(
        self, values: NDArray[Any], seed: Seed = 0, draw: Seed = 0, amount: float | None = None
    ) -> Images:
        """Changed images in 0..1, ``(n, C, H, W)``.

        Args:
            values: images in 0..1.
            seed: decides which input lines are dead, for all images, and the noise.
            draw: number of the set of images; noise differs from set to set.
            amount: how much; the shift's own amount by default.
        """
        chosen = self.amount if amount is None else amount
        if not -MAX_AMOUNT <= chosen <= MAX_AMOUNT:
            raise ConfigError(f"amount is {chosen}; expected {-MAX_AMOUNT} to {MAX_AMOUNT}")
        changed = self.change(np.asarray(values, dtype=np.float32), chosen, seed, draw)
        return np.asarray(np.clip(changed, 0.0, 1.0), dtype=np.float32)


def _rotate(values: Images, degrees: float, seed: Seed, draw: int) -> Images:
    del seed, draw
    from scipy.ndimage import rotate

    turned = rotate(values, degrees, axes=(2, 3), reshape=False, order=1)
    return np.asarray(turned, dtype=np.float32)


def _noise(values: Images, sigma: float, seed: Seed, draw: int) -> Images:
    if sigma < 0:
        raise ConfigError(f"amount of noise is {sigma}; expected 0 or more")
    random = np.random.default_rng([seed, 0, draw])
    return values + random.normal(0.0, sigma, values.shape).astype(np.float32)


def _invert(values: Images, amount: float, seed: Seed, draw: int) -> Images:
    del seed, draw
    return (1 - 2 * np.float32(amount)) * values + np.float32(amount)


def _dead(values: Images, share: float, seed: Seed, draw: int) -> Images:
    del draw
    random = np.random.default_rng([seed, 1])
    return values * (random.random(values.shape[1:]) >= share)


# Name of a change of the world -> the change.
SHIFTS = {
    shift.name: shift
    for shift in (
        Shift("rotated", "rotated by 45 degrees", 45.0, _rotate),
        Shift("noisy", "Gaussian noise, sigma 0.5", 0.5, _noise),
        Shift("inverted", "grey values inverted", 1.0, _invert),
        Shift("dead", "70 % of the input lines dead", 0.7, _dead),
    )
}


@checked
def get_shift(name: str) -> Shift:
    """The shift called ``name``.

    Raises:
        ConfigError: the name is unknown; the message lists the known ones.
    """
    if name not in SHIFTS:
        raise ConfigError(unknown_name("shift", name, SHIFTS))
    return SHIFTS[name]
