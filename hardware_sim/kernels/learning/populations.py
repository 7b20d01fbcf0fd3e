"""One step of the populations of a group: those of one kind together, one kind after the other.

A kind is what kernels are compiled for: the class of the registers. Within a step populations do not see
each other, so their order means nothing.
"""

from __future__ import annotations

from typing import Any

from biril_nm.hardware_sim.kernels.jit import choice, clear, part
from biril_nm.hardware_sim.kernels.models import is_model_registers, step_model
from biril_nm.hardware_sim.kernels.neuron import clear_words, is_at_rest, step
from biril_nm.hardware_sim.kernels.records import Clock, Registers, ResetMasks

__all__ = ["advance_kinds"]


@choice
def advance_kinds(t: Any, a: Any, kinds: Any, cells: Any, clock: Any) -> Any:
    """One step of a tuple of :class:`~biril_nm.hardware_sim.kernels.learning.plan.GroupNodes`."""
    return _last if len(kinds) == 1 else _first_and_others


def _last(t: Any, a: Any, kinds: Any, cells: Any, clock: Any) -> None:
    _advance_kind(t, a, kinds[0], cells, clock)


def _first_and_others(t: Any, a: Any, kinds: Any, cells: Any, clock: Any) -> None:
    _advance_kind(t, a, kinds[0], cells, clock)
    advance_kinds(t, a, kinds[1:], cells, clock)


@part
def _advance_kind(t: Any, a: Any, nodes: Any, cells: Any, clock: Any) -> None:
    """One step of the populations of one kind."""
    spikes = cells.s[cells.past + t]
    for k in range(nodes.table.size):
        node = nodes.table[k]
        n0, n1 = node.start, node.start + node.size
        u, v, s = cells.u[n0:n1], cells.v[n0:n1], spikes[n0:n1]
        more = nodes.more[:, node.first_cell : node.first_cell + node.size]
        times = Clock(0, clock.t0, clock.period, node.latency, clock.active)
        clear_words(clock.t0 + t, more, times)
        if is_at_rest(clock.t0 + t, u, v, times):
            clear(s)
        else:
            _step(a[n0:n1], u, v, more, s, _registers(nodes.registers, node), node)


@choice
def _registers(registers: Any, node: Any) -> Any:
    """Registers of one population out of those of its kind."""
    if not is_model_registers(registers):
        return _own_registers
    record = registers.instance_class

    def own(registers: Any, node: Any) -> Any:
        first = node.first_register
        return record(registers.constants[:, first : first + node.n_registers])

    return own


def _own_registers(registers: Any, node: Any) -> Any:
    r0, r1 = node.first_register, node.first_register + node.n_registers
    return Registers(
        registers.keep_u[r0:r1],
        registers.keep_v[r0:r1],
        registers.bias[r0:r1],
        registers.vth[r0:r1],
        None,
    )


@choice
def _step(a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any, node: Any) -> Any:
    """One step of one population."""
    return _step_model if is_model_registers(registers) else _step_cuba_lif


def _step_cuba_lif(a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any, node: Any) -> None:
    if node.masked:
        _step_masked(a, u, v, s, registers, node)
    else:
        step(a, u, v, s, registers)


@part
def _step_masked(a: Any, u: Any, v: Any, s: Any, registers: Any, node: Any) -> None:
    masks = ResetMasks(node.zero, node.fall, node.late_zero, node.late_fall, node.lossy, node.guard)
    keep_u, keep_v, bias, vth = registers.keep_u, registers.keep_v, registers.bias, registers.vth
    step(a, u, v, s, Registers(keep_u, keep_v, bias, vth, masks))


def _step_model(a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any, node: Any) -> None:
    step_model(a, u, v, more, s, registers)
