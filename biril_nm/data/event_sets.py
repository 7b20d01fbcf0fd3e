"""Data sets of events: those of tonic, and folders of one's own recordings, as cached frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data.cache import files_key, packed
from biril_nm.data.downloads import fetch, library
from biril_nm.data.event_files import HDF5, READERS, check_events, read_events
from biril_nm.data.folders import class_names, find_files
from biril_nm.data.frames import BY, RESIZE, FrameSettings, as_events, count_frames, windows
from biril_nm.data.labels import N_DIGITS
from biril_nm.data.sources import DataSource, Option, Request, missing
from biril_nm.data.splits import DataSet, Split
from biril_nm.errors import BirilError, ConfigError, FileFormatError

__all__ = ["EVENT_SOURCES"]

PARTS = ("train", "test")
NMNIST_PARTS = {"train": "Train", "test": "Test"}
HELD_OUT = 0.1  # of each class, where a set has no test part
MICROSECONDS = 1000  # of a millisecond
Sample = tuple[NDArray[np.uint8], int]


def frame_options(n_steps: int, by: str, side: int = 0, binary: bool = False) -> dict[str, Option]:
    """Options of a data set of events, with these defaults."""
    return {
        "steps": Option(n_steps, "frames of a sample"),
        "by": Option(by, "frames of as many events (count) or of one length (time)", BY),
        "side": Option(side, "columns of the frames; 0: as the sensor", low=0),
        "resize": Option("add", "by adding counts, or to side x side between pixels", RESIZE),
        "binary": Option(
            "yes" if binary else "no", "1 for any number of events (spikes)", ("no", "yes")
        ),
    }


def _settings(request: Request, sensor: tuple[int, int, int], window_us: int = 0) -> FrameSettings:
    chosen = request.options
    binary, resize = chosen["binary"] == "yes", chosen["resize"]
    return FrameSettings(
        *sensor, chosen["steps"], chosen["by"], chosen["side"], binary, window_us, resize
    )


def _about(request: Request, files: Sequence[Path], settings: FrameSettings) -> dict[str, Any]:
    """What cached frames depend on; how frames are resized is named where it is not the usual way."""
    named = asdict(settings)
    if settings.resize == RESIZE[0]:
        del named["resize"]
    return {"files": files_key(request.folder(), files), **named}


def _framed(
    request: Request,
    part: str,
    files: Sequence[Path],
    labels: Sequence[int],
    settings: FrameSettings,
) -> Split:
    """The frames of files, from the cache."""
    about = _about(request, files, settings)
    made = _samples(files, labels, settings)
    raw, known = packed(f"{request.source.name}-{part}", about, made, settings.shape)
    return Split(raw, known, settings.top, steps=True)


def _samples(
    files: Sequence[Path], labels: Sequence[int], settings: FrameSettings
) -> Iterator[Sample]:
    length, longest, n_samples = settings.window_us, 0, 0
    for path, label in zip(files, labels):
        events = read_events(path)
        longest = max(longest, int(events["t"][-1] - events["t"][0]) if len(events) else 0)
        parts = windows(events, length, f"'{path}'") if length else (events,)
        for each in parts:
            yield count_frames(each, settings, length or None, f"'{path}'"), label
            n_samples += 1
    if length and not n_samples:
        raise ConfigError(
            f"window_ms is {length / MICROSECONDS:g}, and the longest of {len(files)} recordings lasts "
            f"{longest / MICROSECONDS:g} ms; expected a window that fits into one. Lower window_ms"
        )


def _folder(request: Request) -> DataSet:
    """Recordings in ``train/CLASS`` and ``test/CLASS``."""
    names = class_names(request, PARTS)
    side, window = request.options["sensor"], request.options["window_ms"]
    settings = _settings(request, (side, side, 2), MICROSECONDS * window)
    train, test = (
        _framed(
            request,
            part,
            *find_files(request.folder() / part, names, tuple(READERS), request),
            settings,
        )
        for part in PARTS
    )
    return DataSet(request.source.name, train, test, len(names))


def _nmnist(request: Request) -> DataSet:
    """The layout of tonic; a part of the files is enough."""
    root = request.folder() / "NMNIST"
    names = [str(digit) for digit in range(N_DIGITS)]
    if not (root / "Train").is_dir() and request.download:
        fetch(request, lambda tonic: _fetch_parts(tonic.datasets.NMNIST, request), "tonic")
    settings = _settings(request, (34, 34, 2))
    splits = []
    for part, folder in NMNIST_PARTS.items():
        if not (root / folder).is_dir():
            raise missing(request, f"there is no folder 'NMNIST/{folder}'")
        files, labels = find_files(root / folder, names, (".bin",), request)
        splits.append(_framed(request, part, files, labels, settings))
    train, test = splits
    return DataSet("nmnist", train, test, N_DIGITS)


def _fetch_parts(kind: Any, request: Request) -> None:
    for train in (True, False):
        kind(os.fspath(request.folder()), train=train)


def _tonic(request: Request) -> DataSet:
    """A set that tonic reads: its own division, or the last tenth of each class as test part."""
    source = request.source
    library("tonic", f"read {source.title}")
    name, sensor, divided = TONIC[source.name]
    settings = _settings(request, sensor)
    kinds = [{"train": True}, {"train": False}] if divided else [{}]
    for path in sorted((request.folder() / name).glob(f"*{HDF5}")):  # which tonic opens at once
        check_events(path)
    found = [_open(request, name, arguments) for arguments in kinds]
    rows = [np.arange(len(each)) for each in found] if divided else _last_tenth(found[0])
    names = () if divided else sorted({str(t) for t in found[0].targets if isinstance(t, str)})
    known = {text: i for i, text in enumerate(names)}
    splits = []
    for part, own, each in zip(PARTS, rows, found if divided else 2 * found):
        about = _about(request, _files(each), settings)
        made = _of_tonic(each, own, known, settings)
        raw, labels = packed(f"{source.name}-{part}", about, made, settings.shape)
        splits.append(Split(raw, labels, settings.top, steps=True))
    return DataSet(source.name, splits[0], splits[1], source.classes)


def _files(found: Any) -> list[Path]:
    """Files of a data set of tonic: one a sample, or one for all of them."""
    names = found.data or [Path(found.location_on_system) / found.data_filename]
    return sorted(map(Path, names))


def _open(request: Request, name: str, arguments: Mapping[str, Any]) -> Any:
    """A data set of tonic, which fetches what is missing only if that is allowed."""
    kind = getattr(library("tonic", "read events").datasets, name)

    def refuse(self: Any) -> None:
        raise missing(request)

    closed = kind if request.download else type(name, (kind,), {"download": refuse})
    made: list[Any] = []

    def load(_: Any) -> None:
        made.append(closed(os.fspath(request.folder()), **arguments))
        len(made[0])  # which some of them read from the file

    if request.download:
        fetch(request, load, "tonic")
    else:
        try:
            load(None)
        except BirilError:
            raise
        except Exception as error:  # readers raise anything on damaged files
            raise FileFormatError(
                f"{request.source.title} in '{request.folder()}' cannot be read: {error}. Get its files "
                f"again"
            ) from error
    return made[0]


def _last_tenth(found: Any) -> list[NDArray[np.int64]]:
    """Samples of the first nine tenths of each class, in the order of their paths, and the others."""
    kinds = np.asarray([str(target) for target in found.targets])
    order = np.argsort(found.data, kind="stable")
    held = np.zeros(len(kinds), dtype=bool)
    for kind in np.unique(kinds):
        rows = order[kinds[order] == kind]
        held[rows[len(rows) - math.ceil(HELD_OUT * len(rows)) :]] = True
    return [order[~held[order]], order[held[order]]]


def _of_tonic(
    found: Any, rows: NDArray[np.int64], known: Mapping[str, int], settings: FrameSettings
) -> Iterator[Sample]:
    for row in rows:
        what = f"sample {row} of {type(found).__name__}"
        if found.data:
            check_events(Path(found.data[row]))
        try:
            with np.errstate(all="ignore"):  # what does not fit is refused below
                events, target = found[int(row)]
            label = int(known.get(target, target))
        except BirilError:
            raise
        except Exception as error:  # readers raise anything on damaged files
            raise FileFormatError(f"{what} cannot be read: {error}") from error
        yield count_frames(as_events(events, what), settings, what=what), label


# name -> class of tonic, sensor (columns, rows, polarities), whether it has a test part
TONIC: dict[str, tuple[str, tuple[int, int, int], bool]] = {
    "dvs128_gesture": ("DVSGesture", (128, 128, 2), True),
    "dvs_cifar10": ("CIFAR10DVS", (128, 128, 2), False),
    "ncaltech101": ("NCALTECH101", (240, 180, 2), False),
    "shd": ("SHD", (700, 1, 1), True),
}

EVENT_SOURCES = (
    DataSource(
        "nmnist",
        "N-MNIST",
        _nmnist,
        files="ROOT/NMNIST/{Train,Test}/DIGIT/*.bin (all files or a part of them)",
        get="Get it from www.garrickorchard.com/datasets/n-mnist",
        shape="2 x 34 x 34",
        classes=N_DIGITS,
        options=frame_options(10, "time"),
        downloads=True,
    ),
    DataSource(
        "dvs128_gesture",
        "DVS128 Gesture",
        _tonic,
        files="ROOT/DVSGesture/ibmGesture{Train,Test}/ and ibmGesture{Train,Test}.tar.gz (as tonic)",
        get="Get the archives of tonic's DVSGesture from figshare.com",
        shape="2 x 128 x 128",
        classes=11,
        options=frame_options(16, "count"),
        downloads=True,
    ),
    DataSource(
        "dvs_cifar10",
        "DVS-CIFAR10",
        _tonic,
        files="ROOT/CIFAR10DVS/CLASS/*.aedat4 and CIFAR10DVS.zip (as tonic)",
        get="Get the archive of tonic's CIFAR10DVS from figshare.com",
        shape="2 x 48 x 48",
        classes=10,
        options=frame_options(10, "time", 48),
        downloads=True,
    ),
    DataSource(
        "ncaltech101",
        "N-Caltech101",
        _tonic,
        files="ROOT/NCALTECH101/Caltech101/CLASS/*.bin and N-Caltech101-archive.zip (as tonic)",
        get="Get the archive of tonic's NCALTECH101 from data.mendeley.com",
        shape="2 x 36 x 48",
        classes=101,
        options=frame_options(10, "time", 48),
        downloads=True,
    ),
    DataSource(
        "shd",
        "Spiking Heidelberg Digits",
        _tonic,
        files="ROOT/SHD/shd_{train,test}.h5 and shd_{train,test}.h5.zip (as tonic)",
        get="Get it from zenkelab.org/datasets",
        shape="1 x 1 x 700",
        classes=20,
        options=frame_options(100, "time"),
        downloads=True,
    ),
    DataSource(
        "events",
        "folder of recordings of events",
        _folder,
        files=f"ROOT/train/CLASS/* and ROOT/test/CLASS/* ({', '.join(READERS)})",
        get="They are your own",
        options={
            **frame_options(10, "time"),
            "sensor": Option(128, "columns and rows of the sensor"),
            "window_ms": Option(
                0, "cut recordings into samples of this length; 0: one sample each", low=0
            ),
        },
    ),
)
