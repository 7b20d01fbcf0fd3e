"""All phases of training, by letter or name.

Upper-case letters make cycles without commas (``"BBSBBH"``), names stand between commas
(:mod:`biril_nm.training.schedule`). To add a phase: its function, and one entry here; its name is of small
letters, digits and hyphens, begins with a letter, and is no cycle of letters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biril_nm.models.spiking_net import SpikingNet
from biril_nm.training.biril import stbp, stdp, stdp_stbp
from biril_nm.training.controls import frozen, idle
from biril_nm.training.online_phases import check_online, d_rtrl, es_d_rtrl
from biril_nm.training.phase import Batch, Metrics, Phase, PhaseState
from biril_nm.training.plastic import PLASTIC, plastic_links

if TYPE_CHECKING:
    from biril_nm.training.config import TrainConfig

__all__ = ["PHASES", "PLASTIC", "Batch", "Metrics", "Phase", "PhaseState", "plastic_links"]


def _check_plastic(net: SpikingNet, settings: TrainConfig) -> None:
    plastic_links(net, settings.plastic)


PHASES: dict[str, Phase] = {
    "B": Phase(stbp, "STBP", "all"),
    "S": Phase(stdp, "STDP", "plastic", _check_plastic),
    "H": Phase(stdp_stbp, "STDP-STBP", "all", _check_plastic),
    "F": Phase(frozen, "frozen", "none"),
    "I": Phase(idle, "idle", "none"),
    "d-rtrl": Phase(d_rtrl, "D-RTRL", "all", check_online),
    "es-d-rtrl": Phase(es_d_rtrl, "ES-D-RTRL", "all", check_online),
}
