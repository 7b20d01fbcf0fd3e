"""The chip's limits as a list of small rules: one error lists every violation of a graph.

Lava enforces none of these limits (HARDWARE-level registers just overflow, or the run hangs), so
the back ends call :func:`check_design` before they build anything. A rule is a generator that yields
one :class:`Finding` per violation; ``RULES`` raise, ``CAUTIONS`` only warn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.compartments import COMPARTMENTS, PROGRAM
from biril_nm.errors import RangeError, bullet_list
from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Neurons
from biril_nm.loihi import (
    CHIPS,
    DECAY_UNITY,
    DU_OFFSET,
    LOIHI2,
    NO_SYNAPTIC_MEMORY,
    WEIGHT_BITS,
    ChipProfile,
    SignMode,
    chip_profile,
)
from biril_nm.loihi.fixed_point import prepare_weights, weight_limits, weight_step

__all__ = ["CAUTIONS", "RULES", "Finding", "check_design", "findings", "warnings"]

COARSE_VTH = 50  # below this, rounding vth to an integer shifts it by more than 1 %
SHORT_DV = 50  # below this, rounding dv shifts the time constant by more than 1 %


@dataclass(frozen=True)
class Finding:
    """One violated limit.

    Attributes:
        node: name of the node.
        found: what it has.
        allowed: what the chip allows.
        way_out: what to do.
    """

    node: str
    found: str
    allowed: str
    way_out: str

    def __str__(self) -> str:
        return f"'{self.node}': {self.found}; expected {self.allowed}. {self.way_out}"


Rule = Callable[[LoihiGraph, ChipProfile], Iterator[Finding]]


def check_design(
    graph: LoihiGraph, chip: str | ChipProfile = LOIHI2, rules: Sequence[Rule] | None = None
) -> None:
    """Raise one error with every limit that ``graph`` breaks on ``chip``.

    Args:
        graph: the integer network.
        chip: profile or its name.
        rules: rules to hold, :data:`RULES` by default.

    Raises:
        RangeError: at least one rule is broken.
    """
    profile = chip_profile(chip)
    found = [
        str(finding) for finding in findings(graph, profile, RULES if rules is None else rules)
    ]
    if found:
        raise RangeError(bullet_list(f"the graph does not fit {profile.name}:", found))


def findings(
    graph: LoihiGraph, chip: str | ChipProfile, rules: Sequence[Rule]
) -> tuple[Finding, ...]:
    """Everything that ``rules`` have to say about ``graph``."""
    profile = chip_profile(chip)
    return tuple(finding for rule in rules for finding in rule(graph, profile))


def warnings(graph: LoihiGraph, chip: str | ChipProfile = LOIHI2) -> tuple[Finding, ...]:
    """All findings of :data:`CAUTIONS`: legal in Lava, but worth knowing."""
    return findings(graph, chip, CAUTIONS)


# --- neurons ------------------------------------------------------------------------------------


def compartments_fit_the_chip(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """The chip runs the compartment model, and registers lie within the limits that the model declares.

    Chips of your own run every model.
    """
    for name, node in graph.neurons.items():
        model = node.compartment
        if chip.name in CHIPS and chip.name not in model.chips:
            yield Finding(
                name,
                f"compartment model '{model.name}' does not run on {chip.name}",
                ", ".join(m.name for m in COMPARTMENTS.values() if chip.name in m.chips),
                f"Choose another chip ({', '.join(model.chips)}), or neurons of another model.",
            )
        for register in model.registers:
            low, high = register.limits(chip)
            values = np.asarray(node.registers[register.name])
            low = -DU_OFFSET if register.name == "du" and _sums_up(node) else low
            wrong = values[(values < low) | (values > high)]
            if wrong.size:
                yield Finding(
                    node=name,
                    found=f"{register.name} is {_span(wrong)} ({wrong.size} of {values.size} values)",
                    allowed=f"{low} to {high}",
                    way_out=register.way_out,
                )


def _sums_up(node: Neurons) -> bool:
    """lava-dl's last layer without neurons, with a bias: u sums up its input, v = u + bias, no spike."""
    registers = node.registers
    if not {"du", "dv", "vth"} <= set(registers):
        return False
    return bool(
        np.all(np.asarray(registers["du"]) == -DU_OFFSET)
        and np.all(np.asarray(registers["dv"]) == DECAY_UNITY)
        and np.all(np.asarray(registers["vth"]) == LOIHI2.vth_max)
    )


# --- connections --------------------------------------------------------------------------------


def weight_bits_are_1_to_8(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Width of the weight magnitude."""
    for name, node in graph.connections.items():
        if not 1 <= node.weight_bits <= WEIGHT_BITS:
            yield Finding(
                name,
                f"weight_bits is {node.weight_bits}",
                f"1 to {WEIGHT_BITS}",
                "Lower again with weight_bits in that range.",
            )


def weights_survive_preparation(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Dense and Sparse: clipping and truncation in Lava's first step must change nothing."""
    for name, node in graph.connections.items():
        if isinstance(node, Conv) or not 1 <= node.weight_bits <= WEIGHT_BITS:
            continue
        weights = _weights(node)
        if _are_prepared(weights, node.weight_bits, node.sign_mode):
            continue
        prepared = prepare_weights(weights, node.weight_bits, node.sign_mode)
        if name in graph.plastic:  # learned weights may lie between the steps of fresh ones
            prepared = np.clip(weights, *weight_limits(node.sign_mode))
        changed = prepared != weights
        if changed.any():
            first = int(weights[changed][0])
            yield Finding(
                name,
                f"{int(changed.sum())} weights would change when loaded, the first from {first} to "
                f"{int(prepared[changed][0])}",
                f"what {node.sign_mode.value} weights of {node.weight_bits} bits can hold",
                "Apply biril_nm.loihi.fixed_point.prepare_weights, or lower again.",
            )


def _are_prepared(weights: NDArray[np.int32], weight_bits: int, mode: SignMode) -> bool:
    """Whether they lie within the limits, on multiples of their step, which is a power of two."""
    if not _within(weights, weight_limits(mode)):
        return False
    return not np.bitwise_or.reduce(weights, axis=None) & (weight_step(weight_bits, mode) - 1)


def _within(weights: NDArray[np.int32], limits: tuple[int, int]) -> bool:
    return not weights.size or bool(limits[0] <= weights.min() and weights.max() <= limits[1])


def kernels_stay_in_8_bits_and_sign(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Conv: Lava neither clips nor truncates kernels, so that nothing else would notice."""
    for name, node in graph.connections.items():
        if not isinstance(node, Conv):
            continue
        low, high = weight_limits(node.sign_mode)
        if _within(node.weight, (low, high)):
            continue
        wrong = node.weight[(node.weight < low) | (node.weight > high)]
        if wrong.size:
            yield Finding(
                name,
                f"{wrong.size} kernel values are {_span(wrong)}",
                f"{low} to {high} ({node.sign_mode.value})",
                "Use weight_exp for larger weights.",
            )


def weight_exponents_fit_the_chip(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Dense and Sparse: the chip's range. Conv: from 0, because the kernel itself is shifted."""
    for name, node in graph.connections.items():
        low = 0 if isinstance(node, Conv) else chip.weight_exp_min
        if not low <= node.weight_exp <= chip.weight_exp_max:
            yield Finding(
                name,
                f"weight_exp is {node.weight_exp}",
                f"{low} to {chip.weight_exp_max}",
                "Choose another scale for the layer it feeds.",
            )


def delays_fit_the_chip(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Synaptic delay in steps, beyond the one step that each connection costs."""
    for name, node in graph.connections.items():
        if not 0 <= node.delay <= chip.delay_max:
            yield Finding(
                name,
                f"delay is {node.delay}",
                f"0 to {chip.delay_max}",
                "Insert a relay population, or shorten the longer branch.",
            )


def messages_fit_the_chip(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Graded spikes: only on chips that carry them, and not wider than they do."""
    for name, node in graph.inputs.items():
        if not 0 <= node.message_bits + node.signed <= chip.message_bits_max:
            yield Finding(
                name,
                f"message_bits is {node.message_bits}{' and a sign' if node.signed else ''}",
                f"{_span((0, chip.message_bits_max))} on {chip.name}",
                "Use rate coding for binary spikes, or a chip with graded spikes (loihi2).",
            )
    for name, neurons in graph.neurons.items():
        model = neurons.compartment
        if model.signed and model.message_bits + 1 > chip.message_bits_max:
            yield Finding(
                name,
                f"spikes of '{model.name}' have {model.message_bits} message bits and a sign",
                f"{_span((0, chip.message_bits_max))} on {chip.name}",
                "Use neurons of another model, or a chip with graded spikes (loihi2).",
            )


# --- cautions -----------------------------------------------------------------------------------


def _neurons_with(graph: LoihiGraph, register: str) -> Iterator[tuple[str, Neurons]]:
    return ((name, node) for name, node in graph.neurons.items() if register in node.registers)


def low_thresholds_are_coarse(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Rounding a threshold to an integer costs 0.5 / vth."""
    for name, node in graph.neurons.items():
        lowest = int(np.min(node.spike_threshold))
        if lowest < COARSE_VTH:
            yield Finding(
                name,
                f"vth is {lowest}, a rounding step of {100 / max(lowest, 1):.0f} %",
                f"{COARSE_VTH} or more for 2 % steps",
                "Choose a larger scale, with a weight exponent if need be.",
            )


def small_dv_is_coarse(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """The relative error of a long time constant is 0.5 / dv."""
    for name, node in _neurons_with(graph, "dv"):
        values = np.asarray(node.dv)
        coarse = values[(values > 0) & (values < SHORT_DV)]
        if coarse.size:
            yield Finding(
                name,
                f"dv is {_span(coarse)}, so tau is off by up to {50 / int(coarse.min()):.0f} %",
                f"0, or {SHORT_DV} or more for 1 %",
                "Use a longer dt_s, or an integrator (dv = 0).",
            )


def dv_4096_exceeds_12_bits(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """4096 (v forgets everything) runs in Lava, but a 12-bit register ends at 4095."""
    for name, node in _neurons_with(graph, "dv"):
        if np.any(np.asarray(node.dv) == DECAY_UNITY) and not _sums_up(node):
            yield Finding(
                name,
                f"dv is {DECAY_UNITY}, which Lava runs exactly",
                f"0 to {DECAY_UNITY - 1} in the chip's register",
                f"Use {DECAY_UNITY - 1} for hardware; v then keeps 1/{DECAY_UNITY} of itself.",
            )


def sums_in_u_have_no_register(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Du = -1 (u forgets nothing) runs in Lava, but the register begins at 0."""
    for name, node in graph.neurons.items():
        if _sums_up(node):
            yield Finding(
                name,
                f"du is {-DU_OFFSET}, with which u sums up its input; Lava runs it exactly",
                f"0 to {NO_SYNAPTIC_MEMORY} in the chip's register",
                "For hardware leave the bias of the last layer out and add it to the results.",
            )


def odd_kernels_would_be_truncated(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Lava's Conv keeps kernel values that a chip's synapse format would truncate."""
    for name, node in graph.connections.items():
        if not isinstance(node, Conv) or not 1 <= node.weight_bits <= WEIGHT_BITS:
            continue
        changed = prepare_weights(node.weight, node.weight_bits, node.sign_mode) != node.weight
        if changed.any():
            yield Finding(
                name,
                f"{int(changed.sum())} kernel values are off the weight grid, which Lava's Conv keeps",
                f"what {node.sign_mode.value} weights of {node.weight_bits} bits can hold",
                "Apply biril_nm.loihi.fixed_point.prepare_weights, or lower again.",
            )


def delayed_convolutions_need_a_relay(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Lava's Conv has no delay; the Lava back end puts a DelayLine Process in front of it."""
    for name, node in graph.connections.items():
        if isinstance(node, Conv) and node.delay:
            yield Finding(
                name,
                f"convolution with a delay of {node.delay}, built in Lava as DelayLine + Conv",
                "no delay, for Lava's own Conv alone",
                "Nothing to do in simulation; on hardware the delay belongs to the synapses.",
            )


def learning_rules_need_a_switch(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Plastic connections keep their weights in runs without ``learn=True``."""
    for name, node in graph.connections.items():
        rule = getattr(node, "rule", None)
        if rule is not None:
            yield Finding(
                name,
                f"learning rule '{rule.name}' is at rest: the weights stay as they are",
                "learning where asked for",
                "Pass learn=True (--learn) to run it.",
            )


def programs_need_microcode(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Neurons that are programs of our own, which a chip runs only with microcode for them."""
    for name, node in graph.neurons.items():
        model = node.compartment
        if model.chips.get(chip.name) == PROGRAM:
            yield Finding(
                name,
                f"compartment model '{model.name}' is a program that Lava "
                + (
                    f"runs on the CPU alone ({model.lava_process})"
                    if model.lava_process
                    else "has not"
                ),
                "Lava's LIF, for hardware without microcode of its own",
                "Nothing to do in simulation; docs/chips.md has the program for hardware.",
            )


# What a chip refuses: each rule yields what breaks it.
RULES: tuple[Rule, ...] = (
    compartments_fit_the_chip,
    weight_bits_are_1_to_8,
    weights_survive_preparation,
    kernels_stay_in_8_bits_and_sign,
    weight_exponents_fit_the_chip,
    delays_fit_the_chip,
    messages_fit_the_chip,
)

# What a chip takes, though seldom as it was meant.
CAUTIONS: tuple[Rule, ...] = (
    low_thresholds_are_coarse,
    small_dv_is_coarse,
    dv_4096_exceeds_12_bits,
    sums_in_u_have_no_register,
    odd_kernels_would_be_truncated,
    delayed_convolutions_need_a_relay,
    learning_rules_need_a_switch,
    programs_need_microcode,
)


def _span(values: Any) -> str:
    low, high = int(np.min(values)), int(np.max(values))
    return str(low) if low == high else f"{low} to {high}"


def _weights(node: Connection) -> Any:
    return node.weight.data if hasattr(node.weight, "indptr") else node.weight
