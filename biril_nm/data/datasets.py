"""Data sets by name, held in memory, and their division into reproducible batches.

Values are in 0..1, images (C, H, W), labels integers. ``digits`` is scikit-learn's bundled 8x8
set (no download); ``mnist`` is read from a folder with torchvision's layout, never downloaded.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Count, Seed, checked, unknown_name
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.storage import open_regular

__all__ = ["DATASETS", "Batches", "DataSet", "Loaders", "Split", "load_data", "make_loaders"]

DATA_ROOT_VARIABLE = "BIRIL_DATA"
DIGITS_TEST_SHARE = 0.2
SMALL_SEED = (1 << 32) - 1  # largest seed that scikit-learn takes as it is
DIGITS_TOP = 16  # values of scikit-learn's digits are 0..16
BYTE_TOP = 255
MNIST_SIDE = 28
N_DIGITS = 10
MNIST_FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
IDX_IMAGES, IDX_LABELS = 2051, 2049  # magic numbers of the IDX format (yann.lecun.com)

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]


@checked
@dataclass(frozen=True)
class Split:
    """Training or test part of a data set.

    Attributes:
        raw: unsigned bytes (N, C, H, W).
        labels: classes (N,).
        top: raw value that stands for 1.0.

    Raises:
        ConfigError: no samples, or labels that do not fit them.
    """

    raw: NDArray[np.uint8]
    labels: LabelArray
    top: int

    def __post_init__(self) -> None:
        if not self.raw.ndim:
            raise ConfigError("raw has no dimensions; expected (N, C, H, W)")
        shown = f"samples in raw of shape {np.shape(self.raw)}"
        check_labels(self.labels, len(self.raw), samples=shown)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def values(self, index: Any = slice(None)) -> FloatArray:
        """Samples as floats in 0..1."""
        return np.asarray(self.raw[index], dtype=np.float32) / np.float32(self.top)

    @checked
    def head(self, n: int) -> Split:
        """The first ``n`` samples."""
        return Split(self.raw[:n], self.labels[:n], self.top)


@checked
@dataclass(frozen=True)
class DataSet:
    """A data set with its fixed division.

    Attributes:
        name: registry name.
        train: training part.
        test: test part.
        n_classes: number of classes.

    Raises:
        ConfigError: a label that is not a class.
    """

    name: str
    train: Split
    test: Split
    n_classes: int

    def __post_init__(self) -> None:
        for part in (self.train, self.test):
            check_labels(part.labels, len(part), self.n_classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(int(n) for n in self.train.raw.shape[1:])

    @checked
    def head(self, n_train: int, n_test: int | None = None) -> DataSet:
        """The first samples of both parts, for quick trials."""
        return DataSet(
            self.name, self.train.head(n_train), self.test.head(n_test or n_train), self.n_classes
        )


@checked
class Batches:
    """Batches of a split; the order depends on seed and epoch alone.

    Args:
        split: the samples.
        batch_size: samples per batch; the last one may be smaller.
        shuffle: a new order in each epoch.
        crop_pad: random crop after padding by this many pixels of zeros (0: none).
        seed: seed of order and crops.

    Raises:
        ConfigError: nothing to iterate over.
    """

    def __init__(
        self,
        split: Split,
        batch_size: Count,
        shuffle: bool = False,
        crop_pad: int = 0,
        seed: Seed = 0,
    ) -> None:
        if batch_size < 1 or len(split) < 1 or crop_pad < 0:
            raise ConfigError(
                f"batch_size is {batch_size}, crop_pad {crop_pad}, with {len(split)} samples; expected at "
                f"least 1, 0 and 1"
            )
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.crop_pad = crop_pad
        self.seed = seed

    def __len__(self) -> int:
        """Batches per epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[FloatArray, LabelArray]]:
        """Batches of epoch 0."""
        return self.epoch(0)

    @checked
    def epoch(self, number: int) -> Iterator[tuple[FloatArray, LabelArray]]:
        """Batches ``(values (B, C, H, W), labels (B,))`` of one epoch."""
        random = np.random.default_rng([self.seed, number])
        order = np.arange(len(self.split))
        if self.shuffle:
            random.shuffle(order)
        for start in range(0, len(order), self.batch_size):
            index = order[start : start + self.batch_size]
            values = self.split.values(index)
            if self.crop_pad:
                values = _random_crop(values, self.crop_pad, random)
            yield values, self.split.labels[index]


class Loaders(NamedTuple):
    """Batches for training and for testing."""

    train: Batches
    test: Batches


@checked
def make_loaders(
    data: DataSet,
    batch_size: Count = 64,
    seed: Seed = 0,
    crop_pad: int = 0,
    test_batch_size: Count = 250,
) -> Loaders:
    """Shuffled training batches and test batches in fixed order."""
    return Loaders(
        Batches(data.train, batch_size, shuffle=True, crop_pad=crop_pad, seed=seed),
        Batches(data.test, test_batch_size),
    )


def _random_crop(values: FloatArray, pad: int, random: np.random.Generator) -> FloatArray:
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


@checked
def load_data(name: str, data_root: str | Path | None = None, seed: Seed = 0) -> DataSet:
    """The data set called ``name``.

    Args:
        name: ``digits`` or ``mnist``.
        data_root: folder of data sets; default is the environment variable BIRIL_DATA.
        seed: seed of the division into training and test part, where the set has none (digits).

    Raises:
        ConfigError: unknown name, or the files are not where they should be.
        FileFormatError: a damaged file.
    """
    if name not in DATASETS:
        raise ConfigError(unknown_name("data set", name, DATASETS))
    root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    return DATASETS[name](Path(root) if root else None, seed)


def _digits(root: Path | None, seed: Seed) -> DataSet:
    del root
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    raw = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    state = seed if seed <= SMALL_SEED else int(np.random.SeedSequence(seed).generate_state(1)[0])
    train, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST_SHARE, random_state=state, stratify=labels
    )
    first, second = (Split(raw[index], labels[index], DIGITS_TOP) for index in (train, test))
    return DataSet("digits", first, second, n_classes=N_DIGITS)


def _mnist(root: Path | None, seed: Seed) -> DataSet:
    del seed
    if root is None:
        raise ConfigError(
            f"data set 'mnist' needs a folder: pass data_root (--data-root) or set "
            f"{DATA_ROOT_VARIABLE}. {_mnist_layout('ROOT')}"
        )
    folder = root / "MNIST" / "raw"
    stems = [f"{stem}-{kind}" for stem, _ in MNIST_FILES.values() for kind in _MNIST_KINDS]
    ending = next(
        (e for e in ("", ".gz") if all((folder / f"{s}{e}").is_file() for s in stems)), None
    )
    if ending is None:
        raise ConfigError(f"no MNIST in '{root}'. {_mnist_layout(str(root))}")
    train, test = (_mnist_split(folder, s, ending, count) for s, count in MNIST_FILES.values())
    return DataSet("mnist", train, test, n_classes=N_DIGITS)


_MNIST_KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


def _mnist_layout(root: str) -> str:
    return (
        f"Expected are {root}/MNIST/raw/{{train,t10k}}-images-idx3-ubyte and "
        f"-labels-idx1-ubyte, unpacked or as .gz (the layout of torchvision)"
    )


def _mnist_split(folder: Path, stem: str, ending: str, count: int) -> Split:
    """Read the files in memory; the folder may be read-only."""
    images, labels = (folder / f"{stem}-{kind}{ending}" for kind in _MNIST_KINDS)
    shape = (count, MNIST_SIDE, MNIST_SIDE)
    pixels, classes = read_idx(images, IDX_IMAGES, shape), read_idx(labels, IDX_LABELS, (count,))
    if classes.max() >= N_DIGITS:
        raise FileFormatError(
            f"'{labels}' holds label {classes.max()}; expected 0 to {N_DIGITS - 1}"
        )
    return Split(pixels[:, None], classes.astype(np.int64), BYTE_TOP)


def read_idx(path: Path, magic: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of an IDX file, packed or not, which must be of exactly this shape."""
    header = struct.pack(f">{1 + len(shape)}i", magic, *shape)
    size = math.prod(shape)
    try:
        with open_regular(path) as raw:
            stream: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            found, payload = stream.read(len(header)), stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"'{path}' is damaged: {error}") from error
    if found != header or len(payload) != size:
        raise FileFormatError(
            f"'{path}' is not an MNIST file: it has header {found.hex()} and {len(payload)} bytes or "
            f"more; expected {header.hex()} and {size} bytes. Download it again"
        )
    return np.frombuffer(payload, dtype=np.uint8).reshape(shape)


DATASETS: dict[str, Callable[[Path | None, int], DataSet]] = {"digits": _digits, "mnist": _mnist}
