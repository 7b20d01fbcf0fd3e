"""Data sets: fixed division, reproducible batches, MNIST files in the three states they come in."""

from __future__ import annotations

import functools
import gzip
import operator
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from biril_nm.data import Batches, Split, load_data, make_loaders
from biril_nm.data import mnist as data_module
from biril_nm.errors import ConfigError, FileFormatError


def small_split(n: int = 10, side: int = 6) -> Split:
    raw = np.random.default_rng(0).integers(1, 256, size=(n, 1, side, side), dtype=np.uint8)
    return Split(raw, np.arange(n, dtype=np.int64), 255)


def test_digits() -> None:
    digits = load_data("digits")
    assert (len(digits.train), len(digits.test), digits.n_classes) == (1437, 360, 10)
    assert digits.input_shape == (1, 8, 8)
    values = digits.train.values()
    assert values.dtype == np.float32
    assert (values.min(), values.max()) == (0.0, 1.0)
    shares = np.bincount(digits.test.labels) / 360
    assert shares.min() > 0.09
    np.testing.assert_array_equal(digits.test.labels, load_data("digits").test.labels)
    assert (digits.test.labels != load_data("digits", seed=1).test.labels).any()
    assert len(digits.head(20, 5).test) == 5


def test_order_depends_on_seed_and_epoch_only() -> None:
    batches = Batches(small_split(), 4, shuffle=True, seed=3)
    order = [labels.tolist() for _, labels in batches.epoch(2)]
    assert [len(part) for part in order] == [4, 4, 2] and len(batches) == 3
    assert sorted(functools.reduce(operator.iadd, order, [])) == list(range(10))
    again = Batches(small_split(), 4, shuffle=True, seed=3)
    assert [labels.tolist() for _, labels in again.epoch(2)] == order
    assert [labels.tolist() for _, labels in again.epoch(1)] != order
    other = Batches(small_split(), 4, shuffle=True, seed=4)
    assert [labels.tolist() for _, labels in other.epoch(2)] != order
    plain = Batches(small_split(), 4)
    assert np.concatenate([labels for _, labels in plain]).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("size", "sizes"), [(3, [3, 3, 4]), (9, [10]), (4, [4, 4, 2]), (10, [10]), (1, [1] * 10)]
)
def test_a_single_sample_that_is_left_joins_the_batch_before(size: int, sizes: list[int]) -> None:
    batches = Batches(small_split(), size, shuffle=True)
    found = [labels.tolist() for _, labels in batches.epoch(1)]
    assert [len(part) for part in found] == sizes and len(batches) == len(sizes)
    assert sorted(functools.reduce(operator.iadd, found, [])) == list(range(10))


def test_random_crop_only_shifts() -> None:
    split = small_split(n=50)
    shifts = set()
    for values, labels in Batches(split, 50, crop_pad=2).epoch(0):
        for image, label in zip(values[:, 0], labels):
            padded = np.pad(split.values()[label, 0], 2)
            found = [
                (y, x)
                for y in range(5)
                for x in range(5)
                if np.array_equal(padded[y : y + 6, x : x + 6], image)
            ]
            assert len(found) == 1
            shifts.add(found[0])
    assert len(shifts) > 10
    first, second = (next(Batches(split, 50, crop_pad=2).epoch(e))[0] for e in (0, 1))
    assert (first != second).any()


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"'mine.npz' is unknown; .* by biril_nm.fit; commands"):
        load_data("mine.npz")
    with pytest.raises(
        ConfigError,
        match="data set 'cifar' is unknown; expected one of digits, mnist, spoken, cifar10",
    ):
        load_data("cifar")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Batches(small_split(), 0)


# --- MNIST ----------------------------------------------------------------------------------------


def write_mnist(root: Path, packed: bool, damage: str = "") -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    for stem, count in data_module.MNIST_FILES.values():
        images = random.integers(0, 256, count * 28 * 28, dtype=np.uint8).tobytes()
        labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
        files = {
            f"{stem}-images-idx3-ubyte": struct.pack(">4i", 2051, count, 28, 28) + images,
            f"{stem}-labels-idx1-ubyte": struct.pack(">2i", 2049, count) + labels,
        }
        for name, content in files.items():
            kept = content[:-1] if damage == name else content
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(kept, 1))
            else:
                (folder / name).write_bytes(kept)


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "MNIST_FILES", {"train": ("train", 30), "test": ("t10k", 20)})


@pytest.mark.usefixtures("tiny_mnist")
def test_packed_and_plain_files_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "packed", packed=True)
    write_mnist(tmp_path / "plain", packed=False)
    packed = load_data("mnist", tmp_path / "packed")
    monkeypatch.setenv("BIRIL_DATA", str(tmp_path / "plain"))
    plain = load_data("mnist")
    assert packed.input_shape == (1, 28, 28)
    for first, second in ((packed.train, plain.train), (packed.test, plain.test)):
        np.testing.assert_array_equal(first.raw, second.raw)
        np.testing.assert_array_equal(first.labels, second.labels)
    assert packed.train.values().max() == 1.0
    assert not list((tmp_path / "packed" / "MNIST" / "raw").glob("*ubyte"))


@pytest.mark.usefixtures("tiny_mnist")
def test_damaged_mnist(tmp_path: Path) -> None:
    write_mnist(tmp_path / "a", packed=True, damage="t10k-labels-idx1-ubyte")
    with pytest.raises(FileFormatError, match=r"t10k-labels-idx1-ubyte\.gz' is not an MNIST file"):
        load_data("mnist", tmp_path / "a")
    write_mnist(tmp_path / "b", packed=True)
    path = tmp_path / "b" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match=r"train-images-idx3-ubyte\.gz' is damaged"):
        load_data("mnist", tmp_path / "b")


def test_missing_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIRIL_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"pass data_root \(--data-root\) or set BIRIL_DATA"):
        load_data("mnist")
    with pytest.raises(ConfigError, match=r"MNIST/raw/\{train,t10k\}-images-idx3-ubyte"):
        load_data("mnist", tmp_path)


@pytest.mark.data
def test_real_mnist() -> None:
    root = os.environ.get("BIRIL_DATA")
    if not root:
        pytest.skip("set BIRIL_DATA to the folder that holds MNIST/raw")
    mnist = load_data("mnist", root)
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    values, labels = next(make_loaders(mnist, 64, crop_pad=2).train.epoch(0))
    assert values.shape == (64, 1, 28, 28)
    assert labels.shape == (64,)
