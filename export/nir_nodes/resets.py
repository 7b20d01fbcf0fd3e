"""What a spike does to v, in the metadata of NIR nodes and as the compartment model that does it.

==========================  ======================================================================
``reset``                   zero, subtract or none
``reset_delay``             1: at the start of the next step
``reset_drops_input``       1: that next step adds nothing to v
``reset_guarded``           1: v that is still above the threshold needs twice as much for a spike
==========================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from biril_nm.compartments import CUBA_LIF, RESET_MODELS, CompartmentModel, SpikeReset
from biril_nm.export.nir_nodes.kinds import Check
from biril_nm.export.nir_nodes.metadata import text, whole_between
from biril_nm.loihi import ResetMode

__all__ = ["RESET_METADATA", "program_of", "reset_metadata", "same_spikes", "written_reset"]

RESET_METADATA: Mapping[str, Check] = {
    "reset": text(),
    "reset_delay": whole_between(0, 1),
    "reset_drops_input": whole_between(0, 1),
    "reset_guarded": whole_between(0, 1),
}
_PROGRAMS = {model.reset: model for model in (CUBA_LIF, *RESET_MODELS)}


def written_reset(metadata: Mapping[str, Any]) -> SpikeReset | None:
    """What checked metadata say a spike does; None where they do not say it, or in words unknown here."""
    mode = metadata.get("reset")
    if mode not in [known.value for known in ResetMode]:
        return None
    return _plain(
        SpikeReset(
            ResetMode(mode),
            delayed=bool(metadata.get("reset_delay", 0)),
            loses_input=bool(metadata.get("reset_drops_input", 0)),
            guarded=bool(metadata.get("reset_guarded", 0)),
        )
    )


def _plain(reset: SpikeReset) -> SpikeReset:
    """Without the facts that mean nothing for this mode."""
    if reset.mode is ResetMode.NONE:
        return SpikeReset(ResetMode.NONE)
    if reset.mode is ResetMode.SUBTRACT:
        return replace(reset, loses_input=False, guarded=reset.guarded and not reset.delayed)
    return replace(reset, loses_input=reset.loses_input and reset.delayed, guarded=False)


def reset_metadata(reset: SpikeReset) -> dict[str, Any]:
    """The metadata that say the same."""
    facts: dict[str, Any] = {"reset": reset.mode.value, "reset_delay": int(reset.delayed)}
    facts |= {"reset_drops_input": 1} if reset.loses_input else {}
    return facts | ({"reset_guarded": 1} if reset.guarded else {})


def same_spikes(reset: SpikeReset) -> SpikeReset:
    """The reset that a chip runs for this one: a late reset to 0 that loses nothing shows in v alone."""
    return replace(reset, delayed=reset.delayed and reset != SpikeReset(delayed=True))


def program_of(reset: SpikeReset) -> CompartmentModel:
    """The compartment model whose spikes are those of this reset."""
    return _PROGRAMS[same_spikes(reset)]
