"""Batches of a split: their order, crops and augmentation depend on seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Count, Seed, checked
from biril_nm.data.augmentation import Augmentation, check_pad
from biril_nm.data.downloads import library
from biril_nm.data.splits import DataSet, LabelArray, Split
from biril_nm.errors import ConfigError

__all__ = ["Batches", "Loaders", "make_loaders"]


@checked
class Batches:
    """Batches of a split; the order depends on seed and epoch alone.

    Args:
        split: the samples.
        batch_size: samples per batch; the last one may be smaller. A single sample that is left joins the
            batch before, since BatchNorm takes no variance of one.
        shuffle: a new order in each epoch.
        crop_pad: random crop after padding by this many pixels of zeros (0: none).
        seed: seed of order, crops and augmentation.
        augment: random changes of each sample, such as ``("crop:4", "flip")``
            (:mod:`biril_nm.data.augmentation`).
        workers: processes that read and augment ahead; the batches are the same with any number.

    Raises:
        ConfigError: nothing to iterate over, or an unknown change.
    """

    def __init__(
        self,
        split: Split,
        batch_size: Count,
        shuffle: bool = False,
        crop_pad: int = 0,
        seed: Seed = 0,
        augment: Sequence[str] = (),
        workers: int = 0,
    ) -> None:
        if batch_size < 1 or len(split) < 1 or crop_pad < 0 or workers < 0:
            raise ConfigError(
                f"batch_size is {batch_size}, crop_pad {crop_pad}, workers {workers}, with {len(split)} "
                f"samples; expected at least 1, 0, 0 and 1"
            )
        if crop_pad and split.steps:
            raise ConfigError(
                f"crop_pad is {crop_pad}, and the samples are frames of events; expected 0. Use "
                f"augment=('crop:{crop_pad}',)"
            )
        if crop_pad:
            sides = split.raw.shape[2:] if split.raw.ndim == 4 else (0, 0)  # no pictures
            check_pad("crop_pad", crop_pad, *sides)
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.crop_pad = crop_pad
        self.seed = seed
        self.augmentation = Augmentation(tuple(augment), seed, split.steps)
        self.workers = workers

    def __repr__(self) -> str:
        return f"Batches({len(self)} of {self.batch_size} samples, {self.split!r})"

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._bounds())

    def __iter__(self) -> Iterator[tuple[NDArray[Any], LabelArray]]:
        """Batches of epoch 0."""
        return self.epoch(0)

    @checked
    def epoch(self, number: int) -> Iterator[tuple[NDArray[Any], LabelArray]]:
        """Batches ``(values, labels (B,))`` of one epoch; values as the coding takes them.

        Shape:
            values ``(B, C, H, W)``, or counts ``(n_steps, B, C, H, W)``.
        """
        random = np.random.default_rng([self.seed, number])
        order = np.arange(len(self.split))
        if self.shuffle:
            random.shuffle(order)
        parts = [order[low:high] for low, high in self._bounds()]
        for stored, labels in self._read(number, parts):
            values = self.split.scaled(stored)
            if self.crop_pad:
                values = _random_crop(values, self.crop_pad, random)
            yield values, labels

    def _bounds(self) -> list[tuple[int, int]]:
        """First sample of each batch, and the one behind its last."""
        n, size = len(self.split), self.batch_size
        n_batches = math.ceil(n / size) - (1 < size < n and n % size == 1)
        starts = [size * index for index in range(n_batches)]
        return list(zip(starts, [*starts[1:], n]))

    def _read(
        self, number: int, parts: Sequence[NDArray[np.int64]]
    ) -> Iterator[tuple[NDArray[np.uint8], LabelArray]]:
        """Stored samples of each part, augmented, and their labels; read here or in workers."""
        source = _Source(self.split, self.augmentation, number)
        if not self.workers:
            return (source[part] for part in parts)
        torch = library("torch", "read samples in workers", "torch")

        data: Any = source
        loader = torch.utils.data.DataLoader(
            data,
            batch_size=None,
            sampler=parts,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else it draws from the random numbers of the caller
        )
        return iter(loader)


class _Source:
    """Samples of one epoch by their indices; sent to workers whole."""

    def __init__(self, split: Split, augmentation: Augmentation, epoch: int) -> None:
        self.split = split
        self.augmentation = augmentation
        self.draws = augmentation.draws(epoch, len(split))

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], LabelArray]:
        return self.augmentation.apply(self.split, index, self.draws)


def _as_it_is(batch: Any) -> Any:
    return batch


class Loaders(NamedTuple):
    """Batches for training, and for the accuracy after each epoch."""

    train: Batches
    test: Batches


@checked
def make_loaders(
    data: DataSet,
    batch_size: Count = 64,
    seed: Seed = 0,
    crop_pad: int = 0,
    test_batch_size: Count = 250,
    augment: Sequence[str] = (),
    workers: int = 0,
) -> Loaders:
    """Shuffled training batches, and batches in fixed order of the validation part, if there is one,
    else of the test part.
    """
    held = data.test if data.validation is None else data.validation
    return Loaders(
        Batches(data.train, batch_size, True, crop_pad, seed, augment, workers),
        Batches(held, test_batch_size),
    )


def _random_crop(values: NDArray[Any], pad: int, random: np.random.Generator) -> NDArray[Any]:
    """Each image shifted by up to ``pad`` pixels in both directions, zeros moving in."""
    n, channels, height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    shifts = random.integers(0, 2 * pad + 1, size=(2, n))
    rows = shifts[0][:, None] + np.arange(height)
    columns = shifts[1][:, None] + np.arange(width)
    sample = np.arange(n)[:, None, None, None]
    channel = np.arange(channels)[None, :, None, None]
    cropped = padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return np.asarray(cropped, dtype=np.float32)
