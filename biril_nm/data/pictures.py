"""Pictures: CIFAR through torchvision, and folders of one's own pictures."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data.cache import files_key, packed
from biril_nm.data.downloads import fetch, library
from biril_nm.data.folders import class_names, find_files
from biril_nm.data.sources import DataSource, Option, Request, missing
from biril_nm.data.splits import BYTE_TOP, DataSet, Split
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.storage import open_regular

__all__ = ["PICTURE_SOURCES"]

MAX_PIXELS = 1 << 26  # of one picture
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Pillow looks at the content, not at the ending; some of its other formats start programs (EPS: Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
PARTS = ("train", "test")
COLOURS = {"rgb": "RGB", "grey": "L"}
OBJECT = re.compile(r"<[\w.]+ [^>]*>")
MODES = ("1", "L", "P", "RGB")  # of pictures whose every pixel is a colour of 8 bits


def _cifar(request: Request) -> DataSet:
    """CIFAR-10 or CIFAR-100: torchvision compares the MD5 of each file before it reads it."""
    datasets = library("torchvision", f"read {request.source.title}").datasets
    kind: Any = getattr(datasets, request.source.title.replace("-", ""))
    root = request.folder()
    try:
        parts = [kind(root, train=part == "train", download=False) for part in PARTS]
    except RuntimeError as error:
        if not request.download:
            raise missing(request, "; ".join(str(error).splitlines())) from error
        fetch(request, lambda _: kind(root, download=True))
        parts = [kind(root, train=part == "train", download=False) for part in PARTS]
    train, test = (
        Split(
            np.ascontiguousarray(np.moveaxis(part.data, -1, 1)),
            np.asarray(part.targets, dtype=np.int64),
            BYTE_TOP,
        )
        for part in parts
    )
    return DataSet(request.source.name, train, test, request.source.classes)


def _folder(request: Request) -> DataSet:
    """Pictures in ``train/CLASS`` and ``test/CLASS``, the layout of torchvision's ImageFolder."""
    root = request.folder()
    names = class_names(request, PARTS)
    side = request.options["side"]
    shape = (len(COLOURS[request.options["colour"]]), side, side)
    splits = []
    for part in PARTS:
        files, labels = find_files(root / part, names, ENDINGS, request)
        settings = {"files": files_key(root, files), **request.options}
        made = zip(_pictures(files, request.options), labels)
        raw, known = packed(f"{request.source.name}-{part}", settings, made, shape)
        splits.append(Split(raw, known, BYTE_TOP))
    train, test = splits
    return DataSet(request.source.name, train, test, len(names))


def _pictures(files: Sequence[Path], options: Mapping[str, Any]) -> Iterator[NDArray[np.uint8]]:
    """Bytes (C, H, W) of each picture, all of one size."""
    side, first = options["side"], None
    for path in files:
        picture = read_picture(path, options["colour"], side)
        if first is None:
            first = picture.shape
        if picture.shape != first:
            raise ConfigError(
                f"picture '{path}' is {_size(picture.shape)} pixels, and the first one {_size(first)}; "
                f"expected pictures of one size. Give one, as in --dataset pictures:side=32"
            )
        yield picture


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]}"


def read_picture(path: Path, colour: str = "rgb", side: int = 0) -> NDArray[np.uint8]:
    """Bytes (C, H, W) of a picture file.

    Args:
        path: the file.
        colour: ``"rgb"`` or ``"grey"``.
        side: the shorter side becomes this long, and the middle square is taken; 0: as it is.

    Raises:
        FileFormatError: no regular file, no picture, too large, transparent, or not of 8 bits.
        ConfigError: a side of more pixels than a picture may have.
        MissingDependencyError: Pillow is not installed.
    """
    library("PIL", f"read picture '{path}'")
    from PIL import Image

    if side * side > MAX_PIXELS:
        raise ConfigError(f"side is {side}; expected at most {math.isqrt(MAX_PIXELS)}, or 0")
    with open_regular(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged notes in files whose pixels are whole
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image: Any = Image.open(stream, formats=FORMATS)
            size = f"picture '{path}' has {image.width} x {image.height} pixels"
            if not image.width * image.height:
                raise FileFormatError(f"{size}; expected one or more")
            if image.width * image.height > MAX_PIXELS:
                raise FileFormatError(f"{size}; expected at most {MAX_PIXELS:,}. Make it smaller")
            image = _opaque(image, path).convert(COLOURS[colour])
        except FileFormatError:
            raise
        except Exception as error:  # decoders raise anything on damaged files
            raise FileFormatError(
                f"picture '{path}' cannot be read: {_reason(error)}; expected {', '.join(FORMATS)}. "
                f"Remove it, or get it again"
            ) from error
    if side:
        image = _square(image, side)
    values = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(np.atleast_3d(values).transpose(2, 0, 1))


def _reason(error: Exception) -> str:
    """What Pillow says, without the object in memory that it names instead of the file."""
    return OBJECT.sub("", str(error)).strip()


def _opaque(image: Any, path: Path) -> Any:
    """The picture, if conversion to a colour loses nothing of it."""
    if image.mode == "RGBA" or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < BYTE_TOP:
            raise FileFormatError(
                f"picture '{path}' has transparent pixels; expected none. Put it on a background"
            )
        return image
    if image.mode not in MODES:
        raise FileFormatError(
            f"picture '{path}' has mode {image.mode}; expected {', '.join(MODES)}, or RGBA without "
            f"transparent pixels. Convert it to 8 bits"
        )
    return image


def _square(image: Any, side: int) -> Any:
    """The middle square of the picture at the size where its shorter side is ``side``.

    Source: resize and center_crop of torchvision, whose bytes differ by 1 at most, since Pillow keeps the
    box in float32. Only the square is computed, however long the picture is.
    """
    from PIL import Image

    shorter = min(image.size)
    starts, ends = [], []
    for length in image.size:
        whole = side * length // shorter  # of the picture resized
        start = round((whole - side) / 2)
        starts.append(start * length / whole)
        ends.append((start + side) * length / whole)
    return image.resize((side, side), Image.Resampling.BILINEAR, (*starts, *ends))


def _cifar_source(n_classes: int, folder: str) -> DataSource:
    return DataSource(
        f"cifar{n_classes}",
        f"CIFAR-{n_classes}",
        _cifar,
        files=f"ROOT/{folder}/* (the layout of torchvision)",
        get="Get the python version from www.cs.toronto.edu/~kriz/cifar.html",
        shape="3 x 32 x 32",
        classes=n_classes,
        downloads=True,
    )


PICTURE_SOURCES = (
    _cifar_source(10, "cifar-10-batches-py"),
    _cifar_source(100, "cifar-100-python"),
    DataSource(
        "pictures",
        "folder of pictures",
        _folder,
        files=f"ROOT/train/CLASS/* and ROOT/test/CLASS/* ({', '.join(ENDINGS)})",
        get="They are your own",
        options={
            "side": Option(0, "resize the shorter side to it, and take the middle square", low=0),
            "colour": Option("rgb", "channels", tuple(COLOURS)),
        },
    ),
)
