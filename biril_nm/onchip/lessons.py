"""What the host sends to a network that learns on the chip: samples, labels, and when to teach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Count, checked
from biril_nm.arrays import Array
from biril_nm.coding import grey_values, regular_spikes
from biril_nm.data import Split
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError
from biril_nm.onchip.network import LABEL, WINDOW

__all__ = ["SpikeSamples", "lessons", "pictures", "recorded"]

FULL = 255  # grey value of white
BLOCK = 256  # samples that are spikes at a time


@dataclass(frozen=True)
class SpikeSamples:
    """Labelled samples that become spikes a few at a time.

    Attributes:
        labels: class of each.
        shape: of one step of a sample.
        n_steps: steps of a sample.
        spikes: rows -> 0 and 1, ``(n_steps, len(rows), *shape)`` as bytes.

    Raises:
        ConfigError: no samples.
    """

    labels: NDArray[np.int64]
    shape: tuple[int, ...]
    n_steps: int
    spikes: Callable[[NDArray[np.int64]], NDArray[np.uint8]]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise ConfigError(
                "the samples are 0; expected at least 1. Take more samples, or another share for validation"
            )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 of labels and spikes, read a few samples at a time."""
        total = hashlib.sha256(repr((len(self), self.shape, self.n_steps)).encode())
        total.update(self.labels.astype(np.int64).tobytes())
        for start in range(0, len(self), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self)))
            total.update(np.packbits(self.spikes(rows)).tobytes())
        return total.hexdigest()

    def take(self, rows: NDArray[np.int64]) -> SpikeSamples:
        """The samples ``rows``; nothing is copied."""
        return SpikeSamples(
            self.labels[rows], self.shape, self.n_steps, lambda some: self.spikes(rows[some])
        )

    def after_silence(self, n_steps: int) -> SpikeSamples:
        """The samples behind silent steps, so that each takes ``n_steps``.

        Raises:
            ConfigError: the samples are longer.
        """
        more = n_steps - self.n_steps
        if more < 0:
            raise ConfigError(
                f"n_steps is {n_steps}; expected {self.n_steps} or more, the steps of a sample"
            )
        silence = ((more, 0), *[(0, 0)] * (1 + len(self.shape)))
        return SpikeSamples(
            self.labels, self.shape, n_steps, lambda rows: np.pad(self.spikes(rows), silence)
        )


@checked
def pictures(part: Split, n_steps: Count) -> SpikeSamples:
    """Pictures as regular spikes at the rate of their grey values.

    Raises:
        ConfigError: the part holds frames of events.
    """
    if part.steps:
        raise ConfigError(
            "the data set holds frames of events; expected pictures, whose grey values become spikes. Give "
            "spikes instead (--spikes)"
        )

    def spikes(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        stored = part.stored(rows)
        grey = stored if part.top == FULL else grey_values(part.scaled(stored))
        return regular_spikes(grey, n_steps)

    return SpikeSamples(part.labels, part.shape, n_steps, spikes)


@checked
def recorded(spikes: NDArray[Any], labels: ArrayLike) -> SpikeSamples:
    """Samples that are spikes already, ``(n_steps, n, *shape)``, with their labels.

    Raises:
        ConfigError: values other than 0 and 1, another shape, or labels that do not fit.
    """
    if spikes.ndim < 3 or not spikes.size or spikes.dtype.kind not in "biu":
        raise ConfigError(
            f"spikes have shape {spikes.shape} and type {spikes.dtype}; expected integers (n_steps, n, "
            f"*shape)"
        )
    if spikes.min() < 0 or spikes.max() > 1:
        raise ConfigError(f"spikes are {spikes.min()} to {spikes.max()}; expected 0 and 1")
    known = check_labels(labels, spikes.shape[1], samples=f"samples in spikes {spikes.shape}")

    def some(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return spikes[:, rows].astype(np.uint8)

    return SpikeSamples(known, spikes.shape[2:], len(spikes), some)


@checked
def lessons(
    spikes: NDArray[Any], labels: ArrayLike, n_classes: Count, window: tuple[int, int]
) -> dict[str, Array]:
    """Inputs of a network of :func:`biril_nm.onchip.dfa_network`, by name.

    In the teaching steps the line of the label and the line that marks them carry spikes.

    Args:
        spikes: samples ``(n_steps, batch, *shape)``, 0 and 1.
        labels: classes ``(batch,)``.
        n_classes: number of classes.
        window: first teaching step, and the one after the last; (0, 0) does not teach.

    Raises:
        ConfigError: labels or a window that do not fit.
    """
    n_steps, batch = spikes.shape[:2]
    known = check_labels(labels, batch, n_classes)
    first, stop = window
    if not (0 <= first < stop <= n_steps or first == stop == 0):
        raise ConfigError(
            f"window is {window}; expected 0 <= first < stop <= {n_steps}, the steps of a sample, or (0, 0), "
            f"which does not teach"
        )
    line = np.zeros((n_steps, batch, 1), np.uint8)
    line[first:stop] = 1
    target = np.zeros((n_steps, batch, n_classes), np.uint8)
    target[first:stop, np.arange(batch), known] = 1
    return {"input": spikes, LABEL: target, WINDOW: line}
