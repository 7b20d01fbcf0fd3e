"""Training: the phases STBP, STDP and STDP-STBP, their schedule, and the loop."""

from __future__ import annotations

import biril_nm._torch  # noqa: F401
from biril_nm.training.accuracy import Evaluation, evaluate
from biril_nm.training.averaging import average
from biril_nm.training.callbacks import Callback
from biril_nm.training.config import TrainConfig
from biril_nm.training.local_rule.plasticity import PlasticityConfig
from biril_nm.training.loggers import LogTo
from biril_nm.training.loop import History, fit, resolve_device
from biril_nm.training.phases import PHASES, PhaseState, plastic_links
from biril_nm.training.schedule import parse_schedule, phase_at, phases_of, ratio_of

__all__ = [
    "PHASES",
    "Callback",
    "Evaluation",
    "History",
    "LogTo",
    "PhaseState",
    "PlasticityConfig",
    "TrainConfig",
    "average",
    "evaluate",
    "fit",
    "parse_schedule",
    "phase_at",
    "phases_of",
    "plastic_links",
    "ratio_of",
    "resolve_device",
]
