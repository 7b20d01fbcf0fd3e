"""Processes and models beside Lava's own: neurons that rest between samples, delays, ties, recording."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import PyLifModelBitAcc, PyLifResetModelBitAcc, PyTernLifModelFixed
from lava.proc.lif.process import LIF, TernaryLIF

if __package__:
    from biril_nm.compartments.clearing import clearing
else:  # beside run_lava.py in a bundle
    from clearing import clearing  # type: ignore[import-not-found, no-redef]

__all__ = [
    "DelayLine",
    "GatedLIF",
    "GatedTernaryLIF",
    "PyDelayLineModel",
    "PyGatedLIFModel",
    "PyGatedTernaryLIFModel",
    "PyTieModel",
    "Recorded",
    "RecordedLIFReset",
    "Tie",
]


class GatedLIF(LIF):  # type: ignore[misc]
    """LIF that works only while a sample is present and rests (u = v = 0, no spike) in between.

    Awake during the steps ``first_step + i * period + (0 .. n_steps - 1)`` for i = 0, 1, ...; at
    the first of them u and v are cleared after receiving and before integrating. While awake it is
    Lava's LIF. Input that arrives during rest is received and dropped.

    Args:
        first_step: chip step at which the first sample reaches this population.
        n_steps: steps of one sample.
        period: steps from one sample's start to the next.
        registers: shape, du, dv, vth, bias_mant, bias_exp, name of Lava's LIF.
    """

    def __init__(self, *, first_step: int, n_steps: int, period: int, **registers: Any) -> None:
        super().__init__(**registers)
        for key, value in (("first_step", first_step), ("n_steps", n_steps), ("period", period)):
            self.proc_params[key] = value


class GatedTernaryLIF(TernaryLIF):  # type: ignore[misc]
    """TernaryLIF that is cleared and rests as :class:`GatedLIF` does; for ``n_steps`` of 0 it never rests.

    Thresholds may differ between neurons, for which Lava's model has everything but the Vars.

    Args:
        first_step: chip step at which the first sample reaches this population.
        n_steps: steps of one sample, or 0.
        period: steps from one sample's start to the next.
        vth_hi: upper thresholds.
        vth_lo: lower thresholds.
        registers: shape, du, dv, bias_mant, bias_exp, name of Lava's TernaryLIF.
    """

    def __init__(
        self,
        *,
        first_step: int,
        n_steps: int,
        period: int,
        vth_hi: Any,
        vth_lo: Any,
        **registers: Any,
    ) -> None:
        super().__init__(**registers)
        self.vth_hi, self.vth_lo = (
            Var(shape=np.shape(vth) or (1,), init=vth) for vth in (vth_hi, vth_lo)
        )
        for key, value in (("first_step", first_step), ("n_steps", n_steps), ("period", period)):
            self.proc_params[key] = value


class DelayLine(AbstractProcess):  # type: ignore[misc]
    """Passes integers on ``delay`` steps later (at least 1); Lava's Conv has no delay of its own."""

    def __init__(self, *, shape: tuple[int, ...], delay: int, name: str | None = None) -> None:
        super().__init__(delay=delay, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.line = Var(shape=(delay, *shape), init=0)


class Tie(AbstractProcess):  # type: ignore[misc]
    """Receives from two parts of a network and does nothing.

    lava-nc 0.10.0 compiles only one of several unconnected parts and reports nothing about the others;
    a tie between them keeps all.
    """

    def __init__(self, *, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
        super().__init__()
        self.a_in = InPort(shape=shape_a)
        self.b_in = InPort(shape=shape_b)


class Recorded:
    """Mix-in of a model of neurons: its own step, then s, u and v go into shared memory.

    ``proc_params["record"]`` maps "s", "u", "v" to arrays of shape (n_rows, *shape) over memory that
    the parent process shares; row c is chip step c + 1. ``proc_params["clock"]`` counts the steps.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self._record: dict[str, Any] = proc_params.get("record") or {}
        self._steps_done = proc_params.get("clock")
        self.spikes: Any = 0

    def reset_voltage(self, spike_vector: Any) -> None:
        """Lava's LIF gives its spikes here."""
        super().reset_voltage(spike_vector)  # type: ignore[misc]
        self.spikes = spike_vector

    def run_spk(self) -> None:
        """One step, then the recording."""
        super().run_spk()  # type: ignore[misc]
        row = self.time_step - 1  # type: ignore[attr-defined]
        state = {"s": self.spikes, "u": self.u, "v": self.v}  # type: ignore[attr-defined]
        for name, rows in self._record.items():
            if row < len(rows):
                rows[row] = state[name]
        if self._steps_done is not None:
            self._steps_done[...] = row + 1


class RecordedLIFReset(Recorded, PyLifResetModelBitAcc):  # type: ignore[misc]
    """Lava's fixed-point LIFReset, recorded."""


class _Gated:
    """Mix-in of one of Lava's models of neurons: its own step while awake."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self._first_step = proc_params["first_step"]
        self._n_steps = proc_params["n_steps"]
        self._period = proc_params["period"]

    def run_spk(self) -> None:
        own: Any = self
        elapsed = own.time_step - self._first_step
        clear, rest = clearing(elapsed, self._period, self._n_steps)
        if clear:
            own.u[:] = 0
            own.v[:] = 0
        if not rest:
            super().run_spk()  # type: ignore[misc]
            return
        own.a_in.recv()
        silence = np.zeros(own.v.shape, dtype=bool)
        own.reset_voltage(spike_vector=silence)
        own.s_out.send(silence)


class PyGatedLIFModel(Recorded, _Gated, PyLifModelBitAcc):  # type: ignore[misc]
    """Fixed-point model of :class:`GatedLIF`: Lava's LIF step while awake."""

    implements_process = GatedLIF


class PyGatedTernaryLIFModel(Recorded, _Gated, PyTernLifModelFixed):  # type: ignore[misc]
    """Fixed-point model of :class:`GatedTernaryLIF`: Lava's TernaryLIF step while awake."""

    implements_process = GatedTernaryLIF


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyDelayLineModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Sends what came in ``delay`` steps ago, then receives."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    line: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def run_spk(self) -> None:
        """One step."""
        slot = (self.time_step - 1) % len(self.line)
        self.s_out.send(self.line[slot])
        self.line[slot] = self.s_in.recv()


@implements(proc=Tie, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyTieModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Receives, so that the senders never wait."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    b_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def run_spk(self) -> None:
        """One step."""
        self.a_in.recv()
        self.b_in.recv()
