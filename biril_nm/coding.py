"""Input coding and readout: how values become spikes, and states of output neurons class scores.

NumPy only. Training, simulator, Lava bundle and parity check share it, so that all of them see the
same integers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Count, Integers, Seed, checked, unknown_name
from biril_nm.decision import DECISIONS, DEFAULT_DECISION, class_scores
from biril_nm.errors import ConfigError
from biril_nm.loihi import VTH_SHIFT

__all__ = [
    "CODINGS",
    "DECISIONS",
    "Coding",
    "check_decision",
    "grey_values",
    "predictions",
    "readout_scores",
    "regular_spikes",
]

MAX_STEPS = 1 << 20  # of one sample
MAX_BITS = 16
# Kinds of :class:`Coding`.
CODINGS = ("direct", "counts", "signed", "rate", "regular", "spikes")
FIELDS = ("kind", "n_steps", "message_bits")
GRADED = ("direct", "counts", "signed")  # kinds whose spikes carry integers
GREY_TOP = 255  # grey value that spikes at every step under regular coding


@checked
@dataclass(frozen=True)
class Coding:
    """How values enter the network over ``n_steps``.

    ===========  ===================================================  ============================
    kind         values                                               float network sees
    ===========  ===================================================  ============================
    ``direct``   one image: floats in 0..1, or messages as uint8      ``m / (2**message_bits - 1)``
    ``counts``   integers ``0 .. 2**message_bits - 1`` of each step   ``m``
    ``signed``   one image: floats in -1..1; or integers of each      ``m / (2**message_bits - 1)``
                 step, at most ``2**message_bits - 1`` in size
    ``rate``     one image: probabilities of a spike in each step     0 or 1
    ``regular``  one image: floats in 0..1, or grey values as uint8   0 or 1
    ``spikes``   0 and 1 of each step                                 0 or 1
    ===========  ===================================================  ============================

    m is the message, the integer that the chip receives; that of a float x is
    ``round(x (2**message_bits - 1))``. An image is sent at every step. Under ``regular`` spikes come at equal
    distances, at the rate of the grey value (:func:`regular_spikes`).

    Attributes:
        kind: one of :data:`CODINGS`.
        n_steps: steps of one sample.
        message_bits: width of a graded spike, under ``signed`` without its sign; 0 for binary spikes.
    """

    kind: str = "direct"
    n_steps: int = 4
    message_bits: int = 8

    def __post_init__(self) -> None:
        if self.kind not in CODINGS:
            raise ConfigError(unknown_name("coding", self.kind, CODINGS))
        if not 1 <= self.n_steps <= MAX_STEPS:
            raise ConfigError(f"n_steps is {self.n_steps}; expected 1 to {MAX_STEPS}")
        bits = self.message_bits if self.kind in GRADED else 0
        if self.kind in GRADED and not 1 <= bits <= MAX_BITS:
            raise ConfigError(
                f"message_bits is {bits}; expected 1 to {MAX_BITS} for {self.kind} coding"
            )
        object.__setattr__(self, "message_bits", bits)

    @staticmethod
    @checked
    def parse(text: str) -> Coding:
        """The coding that ``kind[:n_steps[:message_bits]]`` names, as on the command line.

        Raises:
            ConfigError: a text of another form, or values out of range.
        """
        kind, *numbers = text.split(":")
        if len(numbers) > 2 or not all(
            n.isascii() and n.isdigit() and len(n) < 10 for n in numbers
        ):
            raise ConfigError(
                f"coding '{text:.60}' is not of the form KIND[:STEPS[:BITS]]; expected a text such as "
                f"direct:25:8"
            )
        return Coding(kind, *map(int, numbers))

    @property
    def signed(self) -> bool:
        """Whether messages may be below zero."""
        return self.kind == "signed"

    @property
    def largest(self) -> int:
        """Largest message."""
        return (1 << self.message_bits) - 1 if self.message_bits else 1

    @property
    def scale(self) -> int:
        """Message for the float 1.0."""
        return 1 if self.kind == "counts" else self.largest

    @checked
    def has_steps(self, values: ArrayLike) -> bool:
        """Whether ``values`` hold every step, ``(n_steps, batch, *shape)``, not one image for all."""
        if self.kind in ("counts", "spikes"):
            return True
        return self.signed and np.asarray(values).dtype.kind in "iu"

    @checked
    def n_samples(self, values: ArrayLike) -> int:
        """Samples that ``values`` hold: its second axis where :meth:`has_steps`, else its first.

        Raises:
            ConfigError: an axis is missing.
        """
        shape, axis = np.shape(values), int(self.has_steps(values))
        if len(shape) <= axis:
            expected = "(n_steps, batch, *shape)" if axis else "(batch, *shape)"
            raise ConfigError(f"values have shape {shape}; {self.kind} coding expects {expected}")
        return shape[axis]

    @checked
    def samples(self, values: ArrayLike, part: slice) -> NDArray[Any]:
        """The samples ``part``, all steps of them: a view of ``values``."""
        x = np.asarray(values)
        return x[:, part] if self.has_steps(x) else x[part]

    @checked
    def encode(self, values: ArrayLike, seed: Seed = 0) -> NDArray[np.int32]:
        """Integer input of the chip, ``(n_steps, batch, *shape)``.

        Shape:
            values ``(batch, *shape)``, or ``(n_steps, batch, *shape)`` where :meth:`has_steps`, whose
            number of steps is their own. A repeated image is a read-only view.

        Raises:
            ConfigError: a value that the coding does not take.
        """
        x = np.asarray(values)
        if self.has_steps(x):
            return self.messages(x)
        if self.kind == "rate":
            _check_between(self.kind, x, 0, 1)
            random = np.random.default_rng(seed).random((self.n_steps, *x.shape))
            return np.asarray(random < x, dtype=np.int32)
        if self.kind == "regular":
            return regular_spikes(grey_values(x), self.n_steps).astype(np.int32)
        if self.kind == "direct" and x.dtype.kind in "iu" and x.dtype != np.uint8:
            raise ConfigError(
                f"direct coding got integers of type {x.dtype}, which may be values or messages; expected "
                f"floats in 0..1 or messages as uint8. Cast them with .astype('float32') or "
                f".astype('uint8')"
            )
        return np.broadcast_to(self.messages(x), (self.n_steps, *x.shape))

    @checked
    def messages(self, values: ArrayLike) -> NDArray[np.int32]:
        """The messages of values of any shape: integers are messages already, floats are values.

        Raises:
            ConfigError: a value that the coding does not take.
        """
        x = np.asarray(values)
        low = -1 if self.signed else 0
        if x.dtype.kind in "iu" or (x.dtype.kind == "f" and self.kind not in ("direct", "signed")):
            _check_between(self.kind, x, low * self.largest, self.largest)
            message: NDArray[np.int32] = x.astype(np.int32)
            if x.dtype.kind == "f" and not np.array_equal(message, x):
                raise ConfigError(
                    f"{self.kind} coding needs whole numbers, and the values hold fractions. Round them, "
                    f"or use a coding of values: {_coding_of(x)!r}"
                )
            return message
        _check_between(self.kind, x, low, 1)
        scaled = np.rint(np.asarray(x, dtype=np.float64) * self.scale)
        return np.asarray(scaled, dtype=np.int32)

    @checked
    def to_float(self, spikes: ArrayLike) -> NDArray[np.float32]:
        """Input of the float network for the integer input ``spikes``."""
        return np.asarray(spikes, dtype=np.float32) / np.float32(self.scale)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; :meth:`from_dict` reads it."""
        return {"kind": self.kind, "n_steps": self.n_steps, "message_bits": self.message_bits}

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, Any]) -> Coding:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: a field is missing or of the wrong kind.
        """
        missing = [name for name in FIELDS if name not in values]
        if missing:
            raise ConfigError(f"coding has no {', '.join(missing)}; expected {', '.join(FIELDS)}")
        return Coding(**{name: values[name] for name in FIELDS})


@checked
def grey_values(values: ArrayLike) -> NDArray[np.uint8]:
    """Grey values 0..255 of images: floats in 0..1 are rounded, bytes are grey values already.

    Raises:
        ConfigError: floats out of range, or integers of another type.
    """
    x = np.asarray(values)
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind in "iu":
        raise ConfigError(
            f"regular coding got integers of type {x.dtype}; expected floats in 0..1 or grey values as "
            f"uint8. Cast them with .astype('float32') or .astype('uint8')"
        )
    _check_between("regular", x, 0, 1)
    return np.asarray(np.rint(np.asarray(x, dtype=np.float64) * GREY_TOP), dtype=np.uint8)


@checked
def regular_spikes(grey: NDArray[np.uint8], n_steps: Count) -> NDArray[np.uint8]:
    """Regular spikes at the rate of grey values, which need no random numbers.

    ``phase = 128`` at first; at each step ``phase += grey``, and where ``phase >= 255`` there is a spike
    and ``phase -= 255``.

    Shape:
        grey ``(batch, *shape)`` to ``(n_steps, batch, *shape)``.

    Raises:
        ConfigError: as :func:`grey_values`, through which other arrays than bytes go.
    """
    grey = grey_values(grey)
    steps = np.arange(n_steps + 1)[:, np.newaxis]
    phases = ((GREY_TOP + 1) // 2 + steps * np.arange(GREY_TOP + 1)) // GREY_TOP
    spikes = np.diff(phases, axis=0).astype(np.uint8)  # (n_steps, 256): of each grey value
    out = np.empty((n_steps, *grey.shape), np.uint8)
    for row, of_grey in zip(out, spikes):
        np.take(of_grey, grey, out=row)
    return out


def _check_between(kind: str, x: NDArray[Any], low: int, high: int) -> None:
    if x.size and not (low <= x.min() and x.max() <= high):
        raise ConfigError(
            f"values are {x.min()} to {x.max()}; expected {low} to {high} for {kind} coding. Scale them "
            f"first, or choose another coding (biril_nm.coding.Coding)"
        )


def _coding_of(x: NDArray[Any]) -> Coding:
    return Coding("direct" if x.min() >= 0 else "signed", min(max(len(x), 1), MAX_STEPS))


def readout_scores(spikes: ArrayLike, v_last: ArrayLike, vth: ArrayLike) -> NDArray[np.int64]:
    """``n_spikes * (vth << 6) + v_last``; :func:`biril_nm.decision.class_scores` takes its place.

    Shape:
        spikes ``(n_steps, batch, n_classes)``, v_last ``(batch, n_classes)``, result the same.
    """
    warnings.warn(
        "'readout_scores' is now 'biril_nm.decision.class_scores'", DeprecationWarning, stacklevel=2
    )
    count = np.asarray(spikes, dtype=np.int64).sum(axis=0)
    threshold = np.asarray(vth, dtype=np.int64) << VTH_SHIFT
    return np.asarray(count * threshold + np.asarray(v_last, dtype=np.int64))


@checked
def check_decision(decision: Any) -> str:
    """``decision``, if it is one of :data:`DECISIONS`.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(decision, str) or decision not in DECISIONS:
        raise ConfigError(f"decision is {decision!r:.60}; expected one of {', '.join(DECISIONS)}")
    return decision


@checked
def predictions(
    spikes: Integers, v_last: Integers, vth: Integers, decision: str = DEFAULT_DECISION
) -> NDArray[np.int64]:
    """Class with the highest score, the first one of equals (:mod:`biril_nm.decision`).

    Shape:
        spikes ``(n_steps, batch, n_classes)``, v_last ``(batch, n_classes)``, result ``(batch,)``.

    Raises:
        ConfigError: an unknown decision, or shapes that do not fit.
    """
    shape, last, one = np.shape(spikes), np.shape(v_last), np.shape(vth)
    if len(shape) < 2 or last != shape[1:] or one not in ((), (1,), shape[-1:]) or 0 in shape:
        raise ConfigError(
            f"spikes have shape {shape}, v_last {last} and vth {one}; expected (n_steps, batch, n_classes), "
            f"(batch, n_classes) and (n_classes,)"
        )
    threshold = np.asarray(vth, dtype=np.int64) << VTH_SHIFT
    scores = class_scores(check_decision(decision), spikes, v_last, threshold)
    return np.asarray(scores.argmax(axis=-1), dtype=np.int64)
