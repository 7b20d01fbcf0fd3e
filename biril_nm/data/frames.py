"""Frames: events of a recording counted by step, polarity and place.

Events are structured arrays with the fields x, y, t (microseconds, rising) and p (0 or 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, FileFormatError

__all__ = ["BY", "EVENT", "RESIZE", "FrameSettings", "as_events", "count_frames", "windows"]

EVENT = np.dtype([("x", np.int32), ("y", np.int32), ("t", np.int64), ("p", np.int8)])
FIELDS = ("x", "y", "t", "p")
BY = ("count", "time")
RESIZE = ("add", "bilinear")
PARTS = 16  # of an event, in which values between pixels are counted
MAX_COUNT = 255  # of a byte
MAX_SPAN_US = 1 << 40  # of a recording: 12 days
MAX_WINDOWS = 1 << 16  # of a recording


@dataclass(frozen=True)
class FrameSettings:
    """How events become frames.

    Attributes:
        width: columns of the sensor.
        height: its rows.
        polarities: its polarities, 1 or 2.
        n_steps: frames of a sample.
        by: ``"count"``: each frame has as many events as the others; ``"time"``: each lasts as long.
        side: columns (and rows, in proportion) that the sensor is reduced to; 0: all.
        resize: ``"add"``: counts of pixels that fall together are added; ``"bilinear"``: frames of ``side x
            side`` values between four pixels each, corners on corners, in sixteenths of an event (as
            BrainCog, whose values are not rounded).
        binary: whether 1 stands for any number of events.
        window_us: a recording is cut into samples of this length, and what is left at its end is dropped;
            0: a recording is a sample.
    """

    width: int
    height: int
    polarities: int
    n_steps: int
    by: str
    side: int = 0
    binary: bool = False
    window_us: int = 0
    resize: str = RESIZE[0]

    def __post_init__(self) -> None:
        if self.side > max(self.width, self.height):
            raise ConfigError(
                f"side is {self.side}, and the sensor has {self.width} x {self.height} pixels; expected at "
                f"most {max(self.width, self.height)}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        longest = max(self.width, self.height)
        side = self.side or longest
        if self.resize == "bilinear":
            return side, side
        return -(-self.height * side // longest), -(-self.width * side // longest)

    @property
    def top(self) -> int:
        """Largest value."""
        return 1 if self.binary else MAX_COUNT

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Steps, polarities, rows, columns."""
        return (self.n_steps, self.polarities, *self.size)


def as_events(found: Any, what: str) -> NDArray[Any]:
    """Events with the fields of :data:`EVENT`, in the order of time.

    Raises:
        FileFormatError: fields are missing, values are not whole numbers in range, or times are too far
            apart.
    """
    array = np.asarray(found)
    missing = [name for name in FIELDS if name not in (array.dtype.names or ())]
    if "y" in missing and array.dtype.names:  # of sensors with one row
        missing.remove("y")
    if missing or array.ndim != 1:
        raise FileFormatError(
            f"{what} holds {array.dtype} in shape {array.shape}; expected events (n,) with the fields x, y, "
            f"t and p"
        )
    events = np.zeros(len(array), EVENT)
    for name in set(FIELDS) & set(array.dtype.names or ()):
        events[name] = _whole(array[name], EVENT[name], f"{what} has {name}")
    times = events["t"]
    if len(times) and int(times.max()) - int(times.min()) > MAX_SPAN_US:
        raise FileFormatError(
            f"{what} has t from {times.min()} to {times.max()}; expected at most {MAX_SPAN_US:,} "
            f"microseconds from first to last"
        )
    if (times[1:] < times[:-1]).any():
        events = events[np.argsort(times, kind="stable")]
    return events


def _whole(values: NDArray[Any], kind: np.dtype[Any], what: str) -> NDArray[Any]:
    """Values of a field as another type, which holds each of them exactly."""
    if values.ndim != 1 or values.dtype.kind not in "iubf":
        raise FileFormatError(
            f"{what} of {values.dtype} in shape {values.shape}; expected whole numbers (n,)"
        )
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        odd = values[values != np.rint(values)][0]
        raise FileFormatError(f"{what} with value {odd}; expected whole numbers")
    limits = np.iinfo(kind)
    if len(values):
        low, high = values.min().item(), values.max().item()
        if not limits.min <= low <= high <= limits.max:
            raise FileFormatError(
                f"{what} from {low} to {high}; expected {limits.min} to {limits.max}"
            )
    return values.astype(kind)


def count_frames(
    events: NDArray[Any], settings: FrameSettings, length_us: int | None = None, what: str = "it"
) -> NDArray[np.uint8]:
    """Counts of events, or values between them in sixteenths; beyond 255 they stay there.

    Args:
        events: of one sample.
        settings: how.
        length_us: its length by the clock, from time 0; None: from the first event to the last.
        what: the sample, for messages.

    Shape:
        ``(n_steps, polarities, rows, columns)``.

    Raises:
        FileFormatError: an event beside the sensor.
    """
    n_steps, polarities, rows, columns = settings.shape
    if settings.resize == "bilinear":
        rows, columns = settings.height, settings.width
    limits = {"x": settings.width, "y": settings.height, "p": 2}
    for name, top in limits.items():
        values = events[name]
        if len(values) and not 0 <= values.min() <= values.max() < top:
            raise FileFormatError(
                f"{what} has {name} from {values.min()} to {values.max()}; expected 0 to {top - 1}"
            )
    if settings.by == "count":
        step = np.arange(len(events)) * n_steps // max(len(events), 1)
    else:
        start = 0 if length_us is not None or not len(events) else events["t"][0]
        length = length_us or (int(events["t"][-1] - start) + 1 if len(events) else 1)
        step = np.minimum((events["t"] - start) * n_steps // length, n_steps - 1)
    row = events["y"].astype(np.int64) * rows // settings.height
    column = events["x"].astype(np.int64) * columns // settings.width
    polarity = events["p"] if polarities == limits["p"] else 0
    place = ((step * polarities + polarity) * rows + row) * columns + column
    counts = np.bincount(place, minlength=n_steps * polarities * rows * columns)
    if settings.resize == "bilinear":
        counts = _between(counts.reshape(n_steps, polarities, rows, columns), *settings.size)
    return np.minimum(counts, settings.top).astype(np.uint8).reshape(settings.shape)


def _between(counts: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Values between the pixels, in parts of an event, rounded half up."""
    down, across = _weights(counts.shape[-2], rows), _weights(counts.shape[-1], columns)
    found: NDArray[Any] = np.floor(PARTS * (down @ counts @ across.T) + 0.5)
    return found


def _weights(n: int, n_points: int) -> NDArray[np.float64]:
    """Shares of n pixels in values at even distances, the first and the last on their corners."""
    at = np.linspace(0, n - 1, n_points)
    low = np.minimum(at.astype(np.int64), max(n - 2, 0))
    found = np.zeros((n_points, n))
    found[np.arange(n_points), low] = 1 - (at - low)
    found[np.arange(n_points), np.minimum(low + 1, n - 1)] += at - low
    return found


def windows(
    events: NDArray[Any], width_us: int, what: str = "the recording"
) -> Iterator[NDArray[Any]]:
    """Consecutive parts of a recording, each with times from 0; none is shorter than the others.

    Raises:
        FileFormatError: more than 65,536 parts.
    """
    if not len(events):
        return
    times = events["t"] - events["t"][0]
    if times[-1] // width_us > MAX_WINDOWS:
        raise FileFormatError(
            f"{what} lasts {times[-1]:,} microseconds, which is {times[-1] // width_us:,} samples of "
            f"{width_us:,}; expected at most {MAX_WINDOWS:,}. Take longer samples (window_ms)"
        )
    for start in range(0, int(times[-1]) - width_us + 1, width_us):
        first, last = np.searchsorted(times, (start, start + width_us))
        part = events[first:last].copy()
        part["t"] = times[first:last] - start
        yield part
