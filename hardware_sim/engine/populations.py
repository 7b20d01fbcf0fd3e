"""Populations as the kernels take them: registers in internal order, and the step that fits them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.compartments import CUBA_LIF, RESET_MODELS, CompartmentModel, SpikeReset
from biril_nm.hardware_sim.engine.layout import internal_order
from biril_nm.hardware_sim.engine.paths import Paths, refuse_path
from biril_nm.hardware_sim.engine.synapses import Synapses
from biril_nm.hardware_sim.kernels.models import model_registers
from biril_nm.hardware_sim.kernels.records import Registers, ResetMasks
from biril_nm.hw_graph import Neurons, Shape
from biril_nm.loihi import DECAY_UNITY, STATE_LIMIT, WEIGHT_SHIFT, ResetMode

__all__ = ["Compartments", "make_compartments", "reset_masks"]


@dataclass(frozen=True)
class Compartments:
    """A population as the kernels take it, neurons in internal order.

    Attributes:
        name, shape: of the Neurons node.
        registers: a :class:`~biril_nm.hardware_sim.kernels.records.Registers`, or the record of another
            compartment model (:mod:`biril_nm.hardware_sim.kernels.models`).
        n_words: state words beyond u and v.
        memoryless: u is forgotten at each step, v decays alike in all neurons, and what arrives is proven
            to stay inside 24 bits, so that the step needs neither u nor its wrap.
        graded: spikes carry other payloads than 0 and 1; the rows of spikes have 32 bits then.
    """

    name: str
    shape: Shape
    registers: Any
    n_words: int = 0
    memoryless: bool = False
    graded: bool = False

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


def make_compartments(
    name: str, node: Neurons, links: tuple[Synapses, ...], paths: Paths
) -> Compartments:
    """Constants of the model's step as the kernel takes them; overflows of illegal values are Lava's.

    Args:
        name, node: the population.
        links: connections that end at it.
        paths: of the graph.

    Raises:
        ConfigError: a path that this population cannot take.
    """
    model = node.compartment
    constants = model.prepare(node.registers)
    shared = all(np.ndim(constant) == 0 for constant in constants)
    if paths.registers == "shared" and not shared:
        raise refuse_path(f"population '{name}'", "registers", "shared", "its neurons differ")
    shared = shared and paths.registers != "each"
    step = _step_of(name, model, constants, paths)
    if step == "declared":
        rows = [_internal(constant, node.shape, shared, np.int64) for constant in constants]
        return Compartments(
            name,
            node.shape,
            model_registers(model, np.stack(rows)),
            n_words=len(model.state) - 2,
            graded=model.message_bits > 0,
        )
    keep_u, keep_v, bias, vth = (_internal(c, node.shape, shared, np.int32) for c in constants)
    forgets = not keep_u.any() and bool(np.all(keep_v == keep_v[0]))
    short = forgets and _stays_inside(links)
    if step == "short" and not short:
        reason = "it remembers u, its decays differ, or its input may wrap"
        raise refuse_path(f"population '{name}'", "step", "short", reason)
    masks = None if model is CUBA_LIF else reset_masks(model.reset)
    registers = Registers(keep_u, keep_v, bias, vth, masks)
    return Compartments(name, node.shape, registers, memoryless=short and step != "32 bits")


def _step_of(
    name: str, model: CompartmentModel, constants: tuple[IntArray, ...], paths: Paths
) -> str | None:
    """The step of a population; None for the best of those with 32 bits."""
    known = any(model is other for other in (CUBA_LIF, *RESET_MODELS))
    if known and not _is_wide(constants):
        return paths.step
    if paths.step in (None, "declared"):
        return "declared"
    reason = f"neurons of model '{model.name}' with these decays have no such step"
    raise refuse_path(f"population '{name}'", "step", paths.step, reason)


def _is_wide(constants: tuple[IntArray, ...]) -> bool:
    """Whether decays lie outside of what registers hold."""
    return any(keep.min() < 0 or keep.max() > DECAY_UNITY for keep in constants[:2])


def reset_masks(reset: SpikeReset) -> ResetMasks:
    """What a spike does to v as the kernels take it."""
    zero, fall = reset.mode is ResetMode.ZERO, reset.mode is ResetMode.SUBTRACT
    late, lossy = reset.delayed, reset.loses_input
    chosen = (
        zero and not late,
        fall and not late,
        zero and late and not lossy,
        fall and late,
        lossy,
        reset.guarded,
    )
    return ResetMasks(*(np.int32(-int(each)) for each in chosen))


def _stays_inside(links: tuple[Synapses, ...]) -> bool:
    """Whether the input, times 64, stays inside 24 bits, and that of one connection needs a factor only."""
    if len(links) == 1:
        finish = links[0].finish
        if finish.right or finish.modulo or links[0].sum_type is np.int64:
            return False
    return sum(link.bound for link in links) < STATE_LIMIT >> WEIGHT_SHIFT


def _internal(value: IntArray, shape: Shape, shared: bool, dtype: Any) -> NDArray[Any]:
    """A constant in internal order, (n,), or (1,) where all neurons share it."""
    if shared:
        return np.asarray(value).reshape(1).astype(dtype)
    full = np.broadcast_to(value, shape).ravel()[internal_order(shape)]
    return np.ascontiguousarray(full, dtype=dtype)
