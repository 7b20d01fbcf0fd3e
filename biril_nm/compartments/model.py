"""CompartmentModel: all that the package knows about one kind of neuron, as one frozen record.

The simulator compiles the step of a model, the Lava back end calls it on arrays, and files, tables, design
rules, mapping and docs iterate over its registers. A model is one file that makes a record, and one call of
:func:`biril_nm.compartments.register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError
from biril_nm.loihi import ChipProfile, ResetMode

__all__ = [
    "NATIVE",
    "PROGRAM",
    "ZERO_AT_ONCE",
    "CompartmentModel",
    "Register",
    "Registers",
    "SpikeReset",
]

Registers = Mapping[str, Any]
IntArray = NDArray[np.int64]
STATE = ("u", "v")
NATIVE = "native"  # how a chip runs a model that is its own neuron
PROGRAM = "program"  # how a chip runs a model of which it needs microcode


@dataclass(frozen=True)
class Register:
    """One register of a compartment: a 32-bit integer per neuron or one for the whole population.

    Attributes:
        name: its name; a keyword of ``Neurons``, a key of files and a column of tables.
        doc: what it does, in one line.
        limits: smallest and largest value that a chip holds.
        way_out: what to do about a value outside of the limits.
        default: value where none is given; None: it must be given.
        shared: whether all neurons of a population have the same value, a plain int.
        tabled: whether neurons refer to a table of the core for it (Loihi 1), so that neurons with
            different values belong to different neuron groups.
    """

    name: str
    doc: str
    limits: Callable[[ChipProfile], tuple[int, int]]
    way_out: str
    default: int | None = 0
    shared: bool = False
    tabled: bool = False


@dataclass(frozen=True)
class SpikeReset:
    """What a spike does to v.

    Attributes:
        mode: v becomes 0, falls by the threshold, or stays as it is.
        delayed: it happens at the start of the next step, as snnTorch has it by default.
        loses_input: that next step adds nothing to v, which stays 0 until the step after it.
        guarded: a neuron that is still above its threshold after a reset spikes in the next step only
            above twice the threshold, as snnTorch has it with ``reset_delay=False``.
    """

    mode: ResetMode = ResetMode.ZERO
    delayed: bool = False
    loses_input: bool = False
    guarded: bool = False

    def __str__(self) -> str:
        """In words, for tables."""
        words = [self.mode.value]
        words += ["one step late"] if self.delayed else []
        words += ["with loss of that step's input"] if self.loses_input else []
        words += ["guarded against a second spike"] if self.guarded else []
        return ", ".join(words)


ZERO_AT_ONCE = SpikeReset()  # v becomes 0 in the step of the spike


@dataclass(frozen=True)
class CompartmentModel:
    """One kind of neuron.

    Per step ``state, s = step(a, state, constants)``, with a the summed input, ``state`` the words of
    ``state`` (u and v first; all are 0 at rest) and ``constants`` what ``prepare`` makes of the
    registers. Numbers are integers; the step wraps them where the chip does
    (:mod:`biril_nm.loihi.integers`).

    Attributes:
        name: name in graphs and files; a Python identifier.
        doc: what it is, in one line.
        equation: the step in the names of registers and state.
        registers: in the order of the positional arguments of ``Neurons``.
        prepare: from registers by name (arrays of no dimension where shared) to the constants of the
            step, arrays of 64-bit integers of the same shapes. Computed once per population.
        step: a plain function without branches on its arguments, which Python ints, NumPy arrays and
            numba run alike. It may call other plain functions and read integers of its module.
        threshold: from registers to the potential that one spike stands for, in units of
            ``1 << VTH_SHIFT`` of v: the weight of a spike in scores of a readout.
        reset: what a spike does to v.
        chips: name of a chip to how it runs there, :data:`NATIVE` or :data:`PROGRAM`; others refuse it.
        netx_refusal: why a netx file cannot hold it; empty where it can.
        lava_process: name of Lava's own Process for it; empty: the generic one runs the step.
        state: names of the state words.
        spikes: smallest and largest payload: 0 and 1, or -1 and 1.
    """

    name: str
    doc: str
    equation: str
    registers: tuple[Register, ...]
    prepare: Callable[[Registers], tuple[IntArray, ...]]
    step: Callable[[Any, tuple[Any, ...], tuple[Any, ...]], tuple[tuple[Any, ...], Any]]
    threshold: Callable[[Registers], IntArray]
    reset: SpikeReset
    chips: Mapping[str, str]
    netx_refusal: str = ""
    lava_process: str = ""
    state: tuple[str, ...] = STATE
    spikes: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        names = [register.name for register in self.registers]
        if not self.name.isidentifier():
            raise ConfigError(f"compartment model name is {self.name!r}; expected an identifier")
        if not names or len(set(names)) < len(names) or not all(n.isidentifier() for n in names):
            raise ConfigError(
                f"compartment model '{self.name}' has registers {names}; expected identifiers, "
                f"each once"
            )
        if self.state[: len(STATE)] != STATE:
            raise ConfigError(
                f"compartment model '{self.name}' has state {self.state}; expected u and v first"
            )

    def __getitem__(self, name: str) -> Register:
        """The register called ``name``."""
        for register in self.registers:
            if register.name == name:
                return register
        raise KeyError(name)

    @property
    def signed(self) -> bool:
        """Whether spikes may be below zero."""
        return self.spikes[0] < 0

    @property
    def message_bits(self) -> int:
        """Width of a payload without its sign; 0: a spike or none."""
        return self.spikes[1].bit_length() if self.signed else 0

    @property
    def per_neuron(self) -> tuple[str, ...]:
        """Names of the registers that may differ between the neurons of a population."""
        return tuple(register.name for register in self.registers if not register.shared)
