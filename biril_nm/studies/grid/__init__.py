"""Studies of training methods: a grid of schedules and seeds, with controls beside every claim."""

from __future__ import annotations

from biril_nm.studies.grid.plan import STUDIES, Method, StudyPlan
from biril_nm.studies.grid.runner import run_study
from biril_nm.studies.grid.summary import Summary, summarise
from biril_nm.studies.grid.verdicts import compare, compare_all

__all__ = [
    "STUDIES",
    "Method",
    "StudyPlan",
    "Summary",
    "compare",
    "compare_all",
    "run_study",
    "summarise",
]
