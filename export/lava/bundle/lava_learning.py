"""Plastic connections and third factors as Lava Processes, with lava-nc and numpy alone.

A two-factor rule becomes Lava's ``Loihi2FLearningRule``, a three-factor rule ``Loihi3FLearningRule``,
whose y1, y2, y3 arrive through ports in every step: from outside (reward, label, error) or from neurons
of the network, each through a :class:`ThirdFactor`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.learning.learning_rule import Loihi2FLearningRule, Loihi3FLearningRule
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.models import PyLearningDenseModelBitApproximate
from lava.proc.dense.process import LearningDense
from lava.proc.sparse.models import PyLearningSparseModelBitApproximate
from lava.proc.sparse.process import LearningSparse

__all__ = ["LEARNING_MODELS", "ThirdFactor", "learning_dense", "learning_sparse"]

TRACE_MAX = 127
TRACES = ("x1", "x2", "y1", "y2", "y3")
SYNAPTIC = {"w": "weights", "t": "tag_1", "d": "tag_2"}


class ThirdFactor(AbstractProcess):  # type: ignore[misc]
    """Hands one third factor (y1, y2 or y3) to a learning connection, one value per target neuron.

    Connect ``s_in`` to whatever knows the factor: a source with rewards, labels or errors, or the
    spikes of neurons; and ``y_out`` to the ``s_in_y1``, ``s_in_y2`` or ``s_in_y3`` of the connection.
    Values must be 0 to 127; a signed factor is split into two, such as y2 - y3.

    Args:
        shape: of ``s_in``; a single element counts for all targets.
        n_post: number of targets.
        delay: steps until a value acts. Input step t reaches neurons of latency L in chip step
            L + t, so L lets a value act on the answer to the input of its own step. 0: at once.
        impulse: None: the values are the factor. Else spikes are filtered into a trace,
            ``y <- floor(exp(-1/tau) y) + impulse``, at most 127.
        tau: time constant of that trace in steps; 0 forgets at every step.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        n_post: int,
        delay: int = 0,
        impulse: int | None = None,
        tau: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(delay=delay, impulse=impulse, tau=tau, name=name)
        self.s_in = InPort(shape=shape)
        self.y_out = OutPort(shape=(n_post,))
        self.line = Var(shape=(max(delay, 1), int(np.prod(shape))), init=0)
        self.y = Var(shape=(n_post,), init=0)


@implements(proc=ThirdFactor, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_approximate_loihi")
class PyThirdFactorModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Receives, delays, filters, sends, all within one step."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    y_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=7)
    line: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    y: Any = LavaPyType(np.ndarray, np.int32, precision=7)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._delay = proc_params["delay"]
        self._impulse = proc_params["impulse"]
        tau = proc_params["tau"]
        self._decay = np.exp(-1 / np.array([tau])) if tau else np.zeros(1)

    def run_spk(self) -> None:
        value = np.asarray(self.s_in.recv()).ravel().astype(np.int32)
        if self._delay:
            slot = (self.time_step - 1) % self._delay
            late = self.line[slot].copy()
            self.line[slot] = value
            value = late
        value = np.broadcast_to(value, self.y.shape)
        if self._impulse is None:
            self.y = value.copy()
        else:
            kept = np.floor(self._decay * self.y).astype(np.int32)
            self.y = np.minimum(kept + self._impulse * (value != 0), TRACE_MAX).astype(np.int32)
        self.y_out.send(self.y)


class _RecordedLearning:
    """Mix-in of a learning model: Lava's own step, then synapses and traces go into shared memory.

    ``proc_params["record"]`` maps "w", "t", "d", "x1", ... to arrays of one row per chip step,
    ``proc_params["final"]`` "w", "t", "d" to arrays of the values after the last step.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self._record: dict[str, Any] = proc_params.get("record") or {}
        self._final: dict[str, Any] = proc_params.get("final") or {}
        self._places = proc_params.get("places")

    def run_spk(self) -> None:
        super().run_spk()  # type: ignore[misc]
        self._keep(first=self.time_step == 1)  # type: ignore[attr-defined]

    def run_lrn(self) -> None:
        super().run_lrn()  # type: ignore[misc]
        self._keep(first=True)

    def _synapses(self, name: str) -> Any:
        values = getattr(self, SYNAPTIC[name])
        return values if self._places is None else values.toarray()[self._places]

    def _keep(self, first: bool) -> None:
        row = self.time_step - 1  # type: ignore[attr-defined]
        for name, rows in self._record.items():
            if row < len(rows):
                rows[row] = self._synapses(name) if name in SYNAPTIC else getattr(self, name)
        for name, array in self._final.items() if first else ():
            array[...] = self._synapses(name)


class RecordedLearningDense(_RecordedLearning, PyLearningDenseModelBitApproximate):  # type: ignore[misc]
    """Lava's fixed-point LearningDense, recorded."""


class RecordedLearningSparse(_RecordedLearning, PyLearningSparseModelBitApproximate):  # type: ignore[misc]
    """Lava's fixed-point LearningSparse, recorded."""


LEARNING_MODELS = {
    LearningDense: RecordedLearningDense,
    LearningSparse: RecordedLearningSparse,
    ThirdFactor: PyThirdFactorModel,
}


def _rule(node: dict[str, Any]) -> Any:
    kind = Loihi3FLearningRule if node["rule"]["three_factor"] else Loihi2FLearningRule
    return kind(**node["rule"]["lava"])


def learning_dense(node: dict[str, Any], arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    """A plastic Dense; ``options`` are those of Lava's Dense."""
    weights = arrays["weight"].astype(np.int32)
    tags = {
        tag_name: arrays.get(key, np.zeros(weights.shape, int)).astype(int)
        for tag_name, key in (("tag_1", "tag_t"), ("tag_2", "tag_d"))
    }
    part = LearningDense(weights=weights, learning_rule=_rule(node), **tags, **options)
    return _with_shapes(part, weights.shape, None)


def learning_sparse(node: dict[str, Any], arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    """A plastic Sparse; tags keep the places of the weights."""
    from scipy.sparse import csr_matrix

    places, shape = (arrays["indices"], arrays["indptr"]), tuple(node["matrix_shape"])

    def matrix(values: Any) -> Any:
        return csr_matrix((values, *places), shape=shape)

    zeros = np.zeros(len(arrays["data"]), int)
    part = LearningSparse(
        weights=matrix(arrays["data"].astype(np.int32)),
        learning_rule=_rule(node),
        tag_1=matrix(arrays.get("tag_t", zeros).astype(int)),
        tag_2=matrix(arrays.get("tag_d", zeros).astype(int)),
        **options,
    )
    rows = np.repeat(np.arange(shape[0]), np.diff(arrays["indptr"]))
    return _with_shapes(part, zeros.shape, (rows, np.asarray(arrays["indices"])))


def _with_shapes(part: Any, shape: tuple[int, ...], places: Any) -> Any:
    """Tell the recording how large each variable is, and where the synapses of a Sparse are."""
    part.recorded_shapes = {
        **dict.fromkeys(SYNAPTIC, shape),
        **{name: getattr(part, name).shape for name in TRACES},
    }
    part.proc_params["places"] = places
    return part
