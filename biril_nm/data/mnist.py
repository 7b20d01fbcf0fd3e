"""MNIST, read without a library from the four IDX files, unpacked or not; the folder may be read-only."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data.downloads import fetch
from biril_nm.data.labels import N_DIGITS
from biril_nm.data.sources import DataSource, Request, missing
from biril_nm.data.splits import BYTE_TOP, DataSet, Split
from biril_nm.errors import FileFormatError
from biril_nm.storage import open_regular

__all__ = ["MNIST", "read_idx"]

SIDE = 28
MNIST_FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
IDX_IMAGES, IDX_LABELS = 2051, 2049  # magic numbers of the IDX format (yann.lecun.com)
KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


def _load(request: Request) -> DataSet:
    folder = request.folder() / "MNIST" / "raw"
    ending = _ending(folder)
    if ending is None and request.download:
        fetch(request, lambda tv: tv.datasets.MNIST(request.folder(), download=True))
        ending = _ending(folder)
    if ending is None:
        raise missing(request)
    train, test = (_split(folder, stem, ending, count) for stem, count in MNIST_FILES.values())
    return DataSet("mnist", train, test, n_classes=N_DIGITS)


def _ending(folder: Path) -> str | None:
    """Ending of the files, if all four of them are there."""
    stems = [f"{stem}-{kind}" for stem, _ in MNIST_FILES.values() for kind in KINDS]
    return next(
        (e for e in ("", ".gz") if all((folder / f"{s}{e}").is_file() for s in stems)), None
    )


def _split(folder: Path, stem: str, ending: str, count: int) -> Split:
    images, labels = (folder / f"{stem}-{kind}{ending}" for kind in KINDS)
    shape = (count, SIDE, SIDE)
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


MNIST = DataSource(
    "mnist",
    "MNIST",
    _load,
    files=(
        "ROOT/MNIST/raw/{train,t10k}-images-idx3-ubyte and -labels-idx1-ubyte, unpacked or as .gz (the "
        "layout of torchvision)"
    ),
    get="Get it from yann.lecun.com/exdb/mnist",
    shape=f"1 x {SIDE} x {SIDE}",
    classes=N_DIGITS,
    downloads=True,
)
