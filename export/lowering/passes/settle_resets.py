"""What a spike does to v, where a NIR file says it, leaves it open, or says what a chip does not run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from biril_nm.compartments import CUBA_LIF, RESET_MODELS, ZERO_AT_ONCE, SpikeReset
from biril_nm.export.nir_files.exact_models import model_of
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS, v_reset
from biril_nm.export.nir_nodes.resets import (
    program_of,
    reset_metadata,
    same_spikes,
    written_reset,
)
from biril_nm.loihi import CHIPS, ChipProfile, ResetMode

__all__ = ["FORCE_ZERO", "RESETS", "SUBTRACT", "ZERO", "SettledResets", "settle_resets"]

FORCE_ZERO = "force-zero"
ZERO, SUBTRACT = ResetMode.ZERO.value, ResetMode.SUBTRACT.value
# Compartment models that metadata of a node fully say.
NAMED_BY_RESET = {CUBA_LIF.name, *(model.name for model in RESET_MODELS)}
RESETS = (ZERO, SUBTRACT, FORCE_ZERO)


@dataclass(frozen=True, eq=False)
class SettledResets:
    """The result of :func:`settle_resets`.

    Attributes:
        graph: with the reset of every spiking node in its metadata.
        chosen: spiking node -> its reset kind, and who decided it.
        findings: what stands against the others.
        forced: nodes whose reset is another than the file says -> what it says.
    """

    graph: nir.NIRGraph
    chosen: Mapping[str, Mapping[str, str]]
    findings: tuple[str, ...]
    forced: Mapping[str, SpikeReset]


def settle_resets(graph: nir.NIRGraph, asked: str | None, chip: ChipProfile) -> SettledResets:
    """Decide the reset of every spiking node.

    Args:
        graph: checked, without nested graphs.
        asked: ``"zero"`` or ``"subtract"`` for nodes of which the file says nothing, ``"force-zero"`` for
            all, or None.
        chip: must run what is decided.
    """
    nodes = dict(graph.nodes)
    chosen: dict[str, dict[str, str]] = {}
    findings: list[str] = []
    forced: dict[str, SpikeReset] = {}
    for name, node in graph.nodes.items():
        if type(node) not in NEURON_KINDS or not hasattr(node, "v_threshold"):
            continue
        said = written_reset(node.metadata)
        reset = _decided(said, node.metadata.get("reset"), asked)
        problem = _problem(node, reset, chip)
        if reset is None or problem:
            findings.append(f"node '{name}' ({type(node).__name__}): {problem}")
            continue
        own = said is not None and program_of(said) is program_of(reset)
        before = str(said or node.metadata.get("reset") or "unknown")
        chosen[name] = {
            "reset": str(reset),
            "from": "file" if own else f"user ({before} in the file)",
        }
        if said is not None and not own:
            forced[name] = said
        nodes[name] = _with_reset(node, reset)
    done = nir.NIRGraph(nodes, list(graph.edges), metadata=dict(graph.metadata), type_check=False)
    return SettledResets(done, chosen, tuple(findings), forced)


def _decided(said: SpikeReset | None, word: Any, asked: str | None) -> SpikeReset | None:
    """The reset that the file or the caller wants; None where neither says it."""
    if asked == FORCE_ZERO:
        known = said if said is not None else ZERO_AT_ONCE
        return known if same_spikes(known) == ZERO_AT_ONCE else ZERO_AT_ONCE
    if said is not None:
        return said
    return SpikeReset(ResetMode(asked)) if asked and word is None else None


def _with_reset(node: Any, reset: SpikeReset) -> Any:
    found = copy.copy(node)
    kept = {k: value for k, value in node.metadata.items() if not k.startswith("reset")}
    found.metadata = {**kept, **reset_metadata(reset)}
    return found


def _problem(node: Any, reset: SpikeReset | None, chip: ChipProfile) -> str:
    """Why the chip cannot run a node with this reset; empty where it can."""
    word = node.metadata.get("reset")
    if reset is None and word is None:
        return (
            f"the file does not say what a spike does to v; expected a reset. Pass reset='{ZERO}' "
            f"(--reset zero) if v becomes 0, reset='{SUBTRACT}' if v falls by the threshold (a soft reset)"
        )
    accept = f"pass reset='{FORCE_ZERO}' and accept the change"
    if reset is None:
        modes = ", ".join(f"'{mode.value}'" for mode in ResetMode)
        return f"reset is '{word}'; expected one of {modes}. Write one of them, or {accept}"
    model, own = program_of(reset), model_of(node)
    if own is not None and own not in NAMED_BY_RESET:
        return (
            f"it was written from the compartment model '{own}', and numbers of the file were changed since; "
            f"expected the file as it was, since NIR has no such neuron. Change the integer network instead"
        )
    if chip.name in CHIPS and chip.name not in model.chips:
        return (
            f"reset is '{reset}'; expected 'zero', the reset of '{chip.name}'. Lower for "
            f"{' or '.join(model.chips)}, train with reset_mechanism='zero', or {accept}"
        )
    if reset.mode is not ResetMode.ZERO and np.any(v_reset(node)):
        return (
            f"v_reset is {v_reset(node).min():g} beside reset '{reset}'; expected 0, since v does not go "
            f"there. Write v_reset = 0, or {accept}"
        )
    return ""
