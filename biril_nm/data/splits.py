"""Splits: the training, test or validation part of a data set, in memory or mapped from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Seed, checked
from biril_nm.data.labels import check_labels
from biril_nm.display import brief_fields
from biril_nm.errors import ConfigError

__all__ = ["BYTE_TOP", "DataSet", "FloatArray", "LabelArray", "Split"]

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]
BYTE_TOP = 255  # the largest value of a byte


@checked
@brief_fields
@dataclass(frozen=True)
class Split:
    """Training, test or validation part of a data set.

    Attributes:
        raw: unsigned bytes: pictures ``(N, C, H, W)``, or frames of events ``(N, n_steps, C, H, W)``.
        labels: classes of the samples.
        top: raw value that stands for 1.0; of frames, which are counts as they are, the largest one.
        steps: whether raw holds frames, one for each step.
        rows: rows of raw that are the samples; None: all of them, in their order.

    Raises:
        ConfigError: no samples, or labels that do not fit them.
    """

    raw: NDArray[np.uint8]
    labels: LabelArray
    top: int
    steps: bool = False
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.raw.ndim <= self.steps:
            missing = "no dimensions" if not self.raw.ndim else f"shape {self.raw.shape}"
            expected = "(N, n_steps, C, H, W)" if self.steps else "(N, C, H, W)"
            raise ConfigError(f"raw has {missing}; expected {expected}")
        if self.rows is not None:
            self._check_rows(self.rows)
        count = len(self.raw) if self.rows is None else len(self.rows)
        shown = f"samples in raw of shape {np.shape(self.raw)}"
        check_labels(self.labels, count, samples=shown)

    def _check_rows(self, rows: NDArray[Any]) -> None:
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ConfigError(
                f"rows have shape {rows.shape} and type {rows.dtype}; expected whole numbers (n,)"
            )
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.raw):
            raise ConfigError(
                f"rows are {rows.min()} to {rows.max()}; expected 0 to {len(self.raw) - 1}, the rows of raw"
            )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, of one step where it has several."""
        return tuple(int(n) for n in self.raw.shape[1 + self.steps :])

    @property
    def n_steps(self) -> int | None:
        """Steps of a sample; None for pictures."""
        return int(self.raw.shape[1]) if self.steps else None

    def stored(self, index: Any = slice(None)) -> NDArray[np.uint8]:
        """Samples as they are stored: bytes, samples first."""
        chosen = index if self.rows is None else self.rows[index]
        return np.asarray(self.raw[chosen])

    def scaled(self, stored: NDArray[np.uint8]) -> NDArray[Any]:
        """Stored samples as a coding takes them: floats in 0..1, or counts ``(n_steps, n, C, H, W)``."""
        if self.steps:
            return np.moveaxis(stored, 1, 0)
        return np.asarray(stored, dtype=np.float32) / np.float32(self.top)

    def values(self, index: Any = slice(None)) -> NDArray[Any]:
        """Samples as a coding takes them (:meth:`scaled`)."""
        return self.scaled(self.stored(index))

    @checked
    def head(self, n: int) -> Split:
        """The first ``n`` samples."""
        if self.rows is None:
            return replace(self, raw=self.raw[:n], labels=self.labels[:n])
        return replace(self, labels=self.labels[:n], rows=self.rows[:n])

    @checked
    def take(self, rows: NDArray[np.int64]) -> Split:
        """The samples ``rows``; nothing is copied."""
        chosen = rows if self.rows is None else self.rows[rows]
        return replace(self, labels=self.labels[rows], rows=chosen)


@checked
@brief_fields
@dataclass(frozen=True)
class DataSet:
    """A data set with its fixed division.

    Attributes:
        name: registry name.
        train: training part.
        test: test part.
        n_classes: number of classes.
        validation: part of the training set on which settings and epochs are chosen, if any.

    Raises:
        ConfigError: a label that is not a class.
    """

    name: str
    train: Split
    test: Split
    n_classes: int
    validation: Split | None = None

    def __post_init__(self) -> None:
        for part in (self.train, self.test, self.validation):
            if part is not None:
                check_labels(part.labels, len(part), self.n_classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, of one step where it has several."""
        return self.train.shape

    @checked
    def head(self, n_train: int, n_test: int | None = None) -> DataSet:
        """The first samples of both parts, for quick trials."""
        return replace(self, train=self.train.head(n_train), test=self.test.head(n_test or n_train))

    @checked
    def with_validation(self, share: float, seed: Seed = 0) -> DataSet:
        """The same test set, and ``share`` of each class of the training set as validation part.

        Raises:
            ConfigError: a share that leaves no sample on one side.
        """
        random = np.random.default_rng([seed, 2])
        chosen = np.zeros(len(self.train), dtype=bool)
        for label in range(self.n_classes):
            rows = np.flatnonzero(self.train.labels == label)
            chosen[random.permutation(rows)[: round(share * len(rows))]] = True
        if not 0 < share < 1 or not chosen.any() or chosen.all():
            raise ConfigError(
                f"validation is {share}, which is {int(chosen.sum())} of {len(self.train)} training samples; "
                f"expected a share between 0 and 1 that leaves samples for both. Take another share"
            )
        kept, held = np.flatnonzero(~chosen), np.flatnonzero(chosen)
        return replace(self, train=self.train.take(kept), validation=self.train.take(held))
