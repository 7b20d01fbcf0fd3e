"""Augmentation: random changes of training samples, each sample on its own, all its frames alike.

A change is a text: its name, then numbers, such as ``"crop:4"`` or ``"affine:10:0.1:0.9:1.1"``. Crops, flips
and affine maps equal torchvision's for equal random numbers and are made for a whole batch at once; the
others are its transforms. The random numbers of a sample depend on seed, epoch and its index alone, so
that batches, workers and interruptions change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import unknown_name
from biril_nm.data.downloads import library
from biril_nm.data.event_mix import mix
from biril_nm.data.splits import BYTE_TOP, LabelArray, Split
from biril_nm.errors import ConfigError

__all__ = ["CHANGES", "Augmentation", "Change", "affine_map", "check_pad", "parse_change"]

MAX_NUMBER = 1e4  # of a change: pixels, degrees, shares
MAX_BY_NAME = {"probability": 1, "magnitude": 30}  # RandAugment has 31 magnitudes
STREAM = 3  # of random numbers: the order of samples and the validation part have others
SEED_TOP = (1 << 63) - 1

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """One kind of random change.

    Attributes:
        name: how texts call it.
        text: what it does.
        numbers: its numbers with their defaults, in order; whole numbers where the default is an int.
        n_draws: random numbers in 0..1 of one sample.
        apply: (bytes ``(n, K, H, W)``, numbers, draws ``(n, n_draws)``, nearest pixel or bilinear) ->
            changed bytes; None: it is a transform of torchvision.
        transform: (torchvision's transforms, numbers) -> the transform of one sample.
        pictures_only: whether it takes grey values up to 255, and makes no sense for counts of events.
        mixes: whether it mixes two samples of events (:mod:`biril_nm.data.event_mix`).
    """

    name: str
    text: str
    numbers: Mapping[str, float]
    n_draws: int
    apply: Callable[[Bytes, Sequence[float], Floats, bool], Bytes] | None = None
    transform: Callable[[Any, Sequence[float]], Any] | None = None
    pictures_only: bool = False
    mixes: bool = False


def check_pad(name: str, pad: int, height: int, width: int) -> None:
    """Refuse to pad a picture by more than its own size.

    Raises:
        ConfigError: it would be.
    """
    if not 0 <= pad <= max(height, width):
        raise ConfigError(
            f"{name} is {pad}, and the samples have {height} x {width} pixels; expected 0 to "
            f"{max(height, width)}. Pad by less"
        )


def _crop(stored: Bytes, numbers: Sequence[float], draws: Floats, nearest: bool) -> Bytes:
    del nearest
    pad = int(numbers[0])
    n, channels, height, width = stored.shape
    check_pad("crop", pad, height, width)
    padded = np.pad(stored, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    starts = np.floor(draws * (2 * pad + 1)).astype(np.int64)
    rows = starts[:, :1] + np.arange(height)
    columns = starts[:, 1:] + np.arange(width)
    sample, channel = np.arange(n)[:, None, None, None], np.arange(channels)[:, None, None]
    return np.asarray(padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]])


def _flip(stored: Bytes, numbers: Sequence[float], draws: Floats, nearest: bool) -> Bytes:
    del nearest
    chosen = (draws < numbers[0]).reshape(-1, 1, 1, 1)
    return np.where(chosen, stored[..., ::-1], stored)


def _affine(stored: Bytes, numbers: Sequence[float], draws: Floats, nearest: bool) -> Bytes:
    degrees, shift, low, high = numbers
    height, width = stored.shape[-2:]
    angles = degrees * (2 * draws[:, 0] - 1)
    moves = np.rint((2 * draws[:, 1:3] - 1) * shift * np.array([width, height]))
    return affine_map(stored, angles, moves, low + (high - low) * draws[:, 3], nearest)


def _rotate(stored: Bytes, numbers: Sequence[float], draws: Floats, nearest: bool) -> Bytes:
    n = len(stored)
    return affine_map(
        stored, numbers[0] * (2 * draws[:, 0] - 1), np.zeros((n, 2)), np.ones(n), nearest
    )


def affine_map(
    stored: Bytes, angles: Floats, moves: Floats, scales: Floats, nearest: bool = False
) -> Bytes:
    """Rotated about the middle, scaled and moved pictures; what comes from outside is 0.

    Shape:
        stored ``(n, K, H, W)``; angles in degrees ``(n,)``, moves ``(n, 2)`` in pixels to the right and
        down, scales ``(n,)``.
    """
    torch = library("torch", "turn and scale samples", "torch")
    height, width = stored.shape[-2:]
    turned = np.deg2rad(angles)[:, None, None]
    x = np.arange(width) - (width - 1) / 2 - moves[:, 0, None, None]
    y = (np.arange(height) - (height - 1) / 2)[:, None] - moves[:, 1, None, None]
    scale = scales[:, None, None]
    from_x = (np.cos(turned) * x + np.sin(turned) * y) / scale
    from_y = (np.cos(turned) * y - np.sin(turned) * x) / scale
    grid = np.stack(np.broadcast_arrays(from_x * 2 / width, from_y * 2 / height), axis=-1)
    mapped = torch.nn.functional.grid_sample(
        torch.from_numpy(stored.astype(np.float32)),
        torch.from_numpy(grid.astype(np.float32)),
        mode="nearest" if nearest else "bilinear",
        align_corners=False,
    )
    return np.asarray(mapped.round_().clamp_(0, 255).numpy(), dtype=np.uint8)


def _erase(v2: Any, numbers: Sequence[float]) -> Any:
    return v2.RandomErasing(numbers[0])


def _rand_augment(v2: Any, numbers: Sequence[float]) -> Any:
    return v2.RandAugment(*map(int, numbers))


def _batchwise(apply: Any, numbers: Sequence[float], nearest: bool, *batch: Any) -> Bytes:
    stored, draws = batch
    return np.asarray(apply(stored, numbers, draws, nearest))


def _one_by_one(transform: Any, stored: Bytes, draws: Floats) -> Bytes:
    """A transform of torchvision, applied to one sample after the other."""
    torch = library("torch", "augment samples", "torch")
    changed = np.empty_like(stored)
    before = torch.get_rng_state()
    try:
        for i, draw in enumerate(draws[:, 0]):
            torch.default_generator.manual_seed(int(draw * SEED_TOP))
            changed[i] = transform(torch.tensor(stored[i])).numpy()
    finally:
        torch.set_rng_state(before)
    return changed


# Name of a random change of training samples -> the change.
CHANGES: dict[str, Change] = {
    change.name: change
    for change in (
        Change("crop", "crop of the same size after padding with zeros", {"pixels": 4}, 2, _crop),
        Change("flip", "left and right exchanged", {"probability": 0.5}, 1, _flip),
        Change("rotate", "rotation by up to so many degrees", {"degrees": 15.0}, 1, _rotate),
        Change(
            "affine",
            "rotation, shift by a share of the side, and scale",
            {"degrees": 10.0, "shift": 0.1, "smallest": 0.9, "largest": 1.1},
            4,
            _affine,
        ),
        Change(
            "erase",
            "RandomErasing of torchvision: a rectangle becomes 0",
            {"probability": 0.25},
            1,
            transform=_erase,
        ),
        Change(
            "rand_augment",
            "RandAugment of torchvision",
            {"count": 2, "magnitude": 9},
            1,
            transform=_rand_augment,
            pictures_only=True,
        ),
        Change(
            "event_mix",
            "EventMix: a part in space and time comes from another sample, perhaps with its label",
            {"probability": 0.5},
            3,
            mixes=True,
        ),
    )
}


def parse_change(text: str) -> tuple[Change, tuple[float, ...]]:
    """The change that a text names, and its numbers.

    Raises:
        ConfigError: an unknown name, too many numbers, or a number out of range.
    """
    name, *words = text.split(":")
    if name not in CHANGES:
        raise ConfigError(unknown_name("augment", name, CHANGES))
    change = CHANGES[name]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    form = ":".join((name, *change.numbers))
    if len(numbers) > len(change.numbers) or not all(0 <= n <= MAX_NUMBER for n in numbers):
        raise ConfigError(
            f"augment is '{text:.60}'; expected {form} with numbers from 0 to {MAX_NUMBER:g}"
        )
    for (key, default), number in zip(change.numbers.items(), numbers):
        top, whole = MAX_BY_NAME.get(key, MAX_NUMBER), isinstance(default, int)
        if number > top or (whole and number != int(number)):
            raise ConfigError(
                f"augment is '{text:.60}', with {key} {number:g}; expected a "
                f"{'whole number' if whole else 'number'} from 0 to {top:g}"
            )
    chosen = (*numbers, *list(change.numbers.values())[len(numbers) :])
    if "smallest" in change.numbers and not 0 < chosen[-2] <= chosen[-1]:
        raise ConfigError(
            f"augment is '{text:.60}', with a scale of {chosen[-2]:g} to {chosen[-1]:g}; expected a range "
            f"above 0"
        )
    return change, chosen


@dataclass(frozen=True)
class Augmentation:
    """Changes of a split, one after the other.

    Attributes:
        texts: the changes.
        seed: of the random numbers.
        frames: whether samples are frames of events, counts ``(n_steps, C, H, W)``.

    Raises:
        ConfigError: a change that does not exist, or that frames do not take.
    """

    texts: tuple[str, ...]
    seed: int
    frames: bool = False

    def __post_init__(self) -> None:
        for text in self.texts:
            self._maker(text)

    def _maker(self, text: str) -> Callable[[Bytes, Floats], Bytes]:
        """The change that a text means, of samples ``(n, K, H, W)`` and their random numbers."""
        change, numbers = parse_change(text)
        if change.pictures_only if self.frames else change.mixes:
            own, others = (
                ("counts of events", "pictures") if self.frames else ("pictures", "events")
            )
            known = [
                c.name
                for c in CHANGES.values()
                if not (c.pictures_only if self.frames else c.mixes)
            ]
            raise ConfigError(
                f"augment '{text:.60}' is for {others}, and the samples are {own}; expected some of "
                f"{', '.join(known)}"
            )
        if change.mixes:
            return lambda stored, draws: stored
        if change.apply is not None:
            return partial(_batchwise, change.apply, numbers, self.frames)
        library("torchvision", "augment samples")
        from torchvision.transforms import v2

        return partial(_one_by_one, change.transform and change.transform(v2, numbers))

    def draws(self, epoch: int, n: int) -> list[Floats]:
        """Random numbers in 0..1 of all samples of an epoch, ``(n, n_draws)`` for each change."""
        found = []
        for i, text in enumerate(self.texts):
            random = np.random.default_rng([self.seed, epoch, STREAM, i])
            found.append(random.random((n, parse_change(text)[0].n_draws)))
        return found

    def apply(
        self, split: Split, index: NDArray[np.int64], draws: Sequence[Floats]
    ) -> tuple[Bytes, LabelArray]:
        """Changed samples and their labels.

        Args:
            split: the samples.
            index: which of them.
            draws: random numbers of all samples, of each change.

        Shape:
            ``(n, ..., H, W)`` and ``(n,)``.
        """
        stored, labels = split.stored(index), split.labels[index]
        if not self.texts:
            return stored, labels
        height, width = stored.shape[-2:]
        shape = stored.shape
        for text, own in zip(self.texts, draws):
            change, numbers = parse_change(text)
            if change.mixes:
                stored, labels = _mixed(split, stored.reshape(shape), labels, numbers, own[index])
            else:
                # RandAugment takes grey values up to 255, of which samples may have fewer.
                top = BYTE_TOP if change.pictures_only else split.top
                flat = _rescaled(stored.reshape(len(index), -1, height, width), split.top, top)
                stored = _rescaled(self._maker(text)(flat, own[index]), top, split.top)
        return stored.reshape(shape), labels


def _rescaled(stored: Bytes, top: int, other: int) -> Bytes:
    """The values whose largest is ``top`` as those whose largest is ``other``, rounded."""
    return stored if top == other else np.rint(stored * (other / top)).astype(np.uint8)


def _mixed(
    split: Split, stored: Bytes, labels: LabelArray, numbers: Sequence[float], draws: Floats
) -> tuple[Bytes, LabelArray]:
    changed, known = stored.copy(), labels.copy()
    for i in np.flatnonzero(draws[:, 0] < numbers[0]):
        other = int(draws[i, 1] * len(split))
        random = np.random.default_rng(int(draws[i, 2] * SEED_TOP))
        changed[i], keeps = mix(stored[i], split.stored(other), random)
        known[i] = known[i] if keeps else split.labels[other]
    return changed, known
