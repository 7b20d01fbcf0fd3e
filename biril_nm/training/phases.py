"""All phases of training, by letter or name.

Upper-case letters make cycles without commas (``"BBSBBH"``), names stand between commas
(:mod:`biril_nm.training.schedule`). To add a phase: its function, and one entry here; its name is of small
letters, digits and hyphens, begins with a letter, and is not a cycle of letters.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from biril_nm.models.spiking_net import SpikingNet
from biril_nm.training.biril import stbp, stdp, stdp_stbp
from biril_nm.training.controls import frozen, idle
from biril_nm.training.local_rule.torch_engine import check_layer
from biril_nm.training.online_phases import check_online, d_rtrl, es_d_rtrl
from biril_nm.training.phase import Batch, Metrics, Phase, PhaseState
from biril_nm.training.plastic import PLASTIC, plastic_links
from biril_nm.training.projection import (
    SIGNALS,
    check_projection,
    feedback_alignment,
    projected,
)

if TYPE_CHECKING:
    from biril_nm.training.config import TrainConfig

__all__ = ["PHASES", "PLASTIC", "Batch", "Metrics", "Phase", "PhaseState", "plastic_links"]


def _check_plastic(net: SpikingNet, settings: TrainConfig) -> None:
    for link in plastic_links(net, settings.plastic):
        check_layer(link.layer)


def _projection(signal: str, title: str, one_step: bool = False) -> Phase:
    updates = "all" if SIGNALS[signal] else "readout"
    run = partial(projected, signal=signal, one_step=one_step)
    return Phase(run, title, updates, check_projection)


# Letter of a schedule -> the phase.
PHASES: dict[str, Phase] = {
    "B": Phase(stbp, "STBP", "all"),
    "S": Phase(stdp, "STDP", "plastic", _check_plastic),
    "H": Phase(stdp_stbp, "STDP-STBP", "all", _check_plastic),
    "F": Phase(frozen, "frozen", "none"),
    "I": Phase(idle, "idle", "none"),
    "fa": Phase(feedback_alignment, "feedback alignment", "all", check_projection),
    "dfa": _projection("dfa", "direct feedback alignment"),
    "sdfa": _projection("sdfa", "signs of the error"),
    "brp": _projection("brp", "label projection"),
    "shallow": _projection("shallow", "readout alone"),
    "dfa-online": _projection("dfa", "DFA in one step", one_step=True),
    "sdfa-online": _projection("sdfa", "sDFA in one step", one_step=True),
    "brp-online": _projection("brp", "BRP in one step", one_step=True),
    "d-rtrl": Phase(d_rtrl, "D-RTRL", "all", check_online),
    "es-d-rtrl": Phase(es_d_rtrl, "ES-D-RTRL", "all", check_online),
}
