"""Neurons that Lava has no Process for: one generic Process runs the step of any compartment model.

In a bundle, the package ``biril_neurons`` holds the files that define the models.
"""

from __future__ import annotations

import importlib
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

if __package__:
    from biril_nm.compartments.clearing import clearing

    from .lava_parts import Recorded
else:  # beside run_lava.py in a bundle
    from clearing import clearing  # type: ignore[import-not-found, no-redef]
    from lava_parts import Recorded  # type: ignore[import-not-found, no-redef]

__all__ = ["Compartments", "PyCompartmentsModel", "compartment_model"]


def compartment_model(name: str) -> Any:
    """The record of the model ``name``; in a bundle, the file ``compartment_NAME.py`` registers it."""
    package = "biril_nm" if __package__ else "biril_neurons"
    models = importlib.import_module(f"{package}.compartments").COMPARTMENTS
    if name not in models:
        importlib.import_module(f"{package}.compartment_{name}")
    return models[name]


class Compartments(AbstractProcess):  # type: ignore[misc]
    """A population of neurons of one compartment model.

    Awake during the steps ``first_step + i * period + (0 .. n_steps - 1)`` for i = 0, 1, ...; at the
    first of them all state is cleared after receiving and before integrating.

    Args:
        model: the ``CompartmentModel``.
        registers: its registers by name.
        shape: of the population.
        first_step: chip step at which the first sample reaches this population.
        n_steps: steps of one sample; 0: the population never rests.
        period: steps from one sample's start to the next.
        name: of the Process.
    """

    def __init__(
        self,
        *,
        model: Any,
        registers: dict[str, Any],
        shape: tuple[int, ...],
        first_step: int,
        n_steps: int,
        period: int,
        name: str | None = None,
    ) -> None:
        constants = tuple(
            np.broadcast_to(np.asarray(value, dtype=np.int64), shape)
            for value in model.prepare(registers)
        )
        super().__init__(
            step=model.step,
            constants=constants,
            n_more=len(model.state) - 2,
            first_step=first_step,
            n_steps=n_steps,
            period=period,
            name=name,
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)
        # Lava has no variables without elements.
        self.more = Var(shape=(max(len(model.state) - 2, 1), *shape), init=0)


class _Step(PyLoihiProcessModel):  # type: ignore[misc]
    """Receives, clears or rests, steps, sends."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    u: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    v: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    more: Any = LavaPyType(np.ndarray, np.int64, precision=64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._step = proc_params["step"]
        self._constants = proc_params["constants"]
        self._n_more = proc_params["n_more"]
        self._clock = tuple(proc_params[key] for key in ("first_step", "period", "n_steps"))

    def run_spk(self) -> None:
        a = np.asarray(self.a_in.recv()).astype(np.int64)
        first_step, period, n_steps = self._clock
        clear, rest = clearing(self.time_step - first_step, period, n_steps)
        if clear:
            self.u[:] = 0
            self.v[:] = 0
            self.more[:] = 0
        spikes = np.zeros(self.v.shape, dtype=np.int32)
        if not rest:
            more = self.more[: self._n_more]
            state = (self.u.astype(np.int64), self.v.astype(np.int64), *more)
            state, spikes = self._step(a, state, self._constants)
            self.u[:], self.v[:] = state[:2]
            for word, value in zip(more, state[2:]):
                word[...] = value
        self.spikes = spikes
        self.s_out.send(spikes)


@implements(proc=Compartments, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyCompartmentsModel(Recorded, _Step):
    """Fixed-point model of :class:`Compartments`, recorded."""
