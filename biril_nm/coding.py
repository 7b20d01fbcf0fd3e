"""Input coding and readout: how values become spikes, and states of output neurons class scores.

NumPy only. Training, simulator, Lava bundle and parity check share it, so that all of them see the
same integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.errors import ConfigError
from biril_nm.loihi import VTH_SHIFT

__all__ = ["CODINGS", "Coding", "predictions", "readout_scores"]

MAX_STEPS = 1 << 20  # of one sample
CODINGS = ("direct", "rate", "spikes")


@dataclass(frozen=True)
class Coding:
    """How a value x in 0..1 enters the network over ``n_steps``.

    ``direct``: the message ``round(x (2**message_bits - 1))`` at every step; the float network sees
    ``message / (2**message_bits - 1)``. ``rate``: a binary spike with probability x per step.
    ``spikes``: the data are spikes already.

    Attributes:
        kind: one of :data:`CODINGS`.
        n_steps: steps of one sample.
        message_bits: width of a graded spike under ``direct``, 0 otherwise.
    """

    kind: str = "direct"
    n_steps: int = 4
    message_bits: int = 8

    def __post_init__(self) -> None:
        if self.kind not in CODINGS:
            raise ConfigError(
                f"coding '{self.kind}' is unknown; expected one of {', '.join(CODINGS)}"
            )
        if not 1 <= self.n_steps <= MAX_STEPS:
            raise ConfigError(f"n_steps is {self.n_steps}; expected 1 to {MAX_STEPS}")
        bits = self.message_bits if self.kind == "direct" else 0
        if self.kind == "direct" and not 1 <= bits <= 16:
            raise ConfigError(f"message_bits is {bits}; expected 1 to 16 for direct coding")
        object.__setattr__(self, "message_bits", bits)

    @property
    def scale(self) -> int:
        """Message for the float 1.0."""
        return (1 << self.message_bits) - 1 if self.message_bits else 1

    def encode(self, values: ArrayLike, seed: int = 0) -> NDArray[np.int32]:
        """Integer input of the chip.

        Shape:
            values ``(batch, *shape)`` in 0..1 (``spikes``: ``(n_steps, batch, *shape)``, passed
            through) to ``(n_steps, batch, *shape)``. For ``direct`` the result is a read-only
            view that repeats one image.

        Raises:
            ConfigError: a value lies outside 0..1.
        """
        x = np.asarray(values)
        if self.kind == "spikes":
            return np.asarray(x, dtype=np.int32)
        if x.size and not (float(x.min()) >= 0.0 and float(x.max()) <= 1.0):
            raise ConfigError(
                f"{self.kind} coding needs values in 0..1, found {x.min()} to {x.max()}. Scale them first"
            )
        if self.kind == "direct":
            message = np.rint(np.asarray(x, dtype=np.float64) * self.scale).astype(np.int32)
            return np.broadcast_to(message, (self.n_steps, *x.shape))
        random = np.random.default_rng(seed).random((self.n_steps, *x.shape))
        return np.asarray(random < x, dtype=np.int32)

    def to_float(self, spikes: ArrayLike) -> NDArray[np.float32]:
        """Input of the float network for the integer input ``spikes``."""
        return np.asarray(spikes, dtype=np.float32) / np.float32(self.scale)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; :meth:`from_dict` reads it."""
        return {"kind": self.kind, "n_steps": self.n_steps, "message_bits": self.message_bits}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Coding:
        """Inverse of :meth:`to_dict`."""
        return Coding(str(values["kind"]), int(values["n_steps"]), int(values["message_bits"]))


def readout_scores(spikes: ArrayLike, v_last: ArrayLike, vth: ArrayLike) -> NDArray[np.int64]:
    """Integer score of each output neuron: spike count first, then membrane potential.

    ``score = n_spikes * (vth << 6) + v_last``, the integer twin of the float score
    ``n_spikes + mem_last / threshold`` on which the networks are trained.

    Shape:
        spikes ``(n_steps, batch, n_classes)``, v_last ``(batch, n_classes)``, result the same.
    """
    count = np.asarray(spikes, dtype=np.int64).sum(axis=0)
    threshold = np.asarray(vth, dtype=np.int64) << VTH_SHIFT
    return np.asarray(count * threshold + np.asarray(v_last, dtype=np.int64))


def predictions(spikes: ArrayLike, v_last: ArrayLike, vth: ArrayLike) -> NDArray[np.int64]:
    """Class with the highest :func:`readout_scores`, the first one of equals. Shape (batch,)."""
    return np.asarray(readout_scores(spikes, v_last, vth).argmax(axis=-1), dtype=np.int64)
