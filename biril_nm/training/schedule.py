"""Schedules: cycles of the phases of :data:`biril_nm.training.phases.PHASES`.

A cycle of letters is a text such as ``"BBSBBH"``. A ratio S:B:H (the paper's order STDP:STBP:STDP-STBP)
becomes a cycle by listing S n_S times, then H n_H times, and putting the B's evenly before each of them:
``1:4:1`` gives BBSBBH and ``2:6:1`` BBSBBSBBH, the two three-phase cycles of the published code.
The length of the cycle is derived, never given. F (frozen) and I (idle) take the place of S where a study
asks what S is worth.

Phases that have names stand between commas, with letters or without: ``"brp"``, ``"brp,BBS"``.
"""

from __future__ import annotations

import re

from biril_nm.arguments import checked, did_you_mean
from biril_nm.errors import ConfigError
from biril_nm.training.phases import PHASES

__all__ = ["parse_schedule", "phase_at", "phases_of", "ratio_of"]

MAX_CYCLE = 10_000


@checked
def parse_schedule(text: str) -> str:
    """The cycle meant by a ratio ``"1:6:2"`` or a written cycle ``"BBSBBH"`` or ``"brp,B,B"``.

    Raises:
        ConfigError: none of these; with an example of each, and all phases.
    """
    bare = "".join(text.split())
    if re.fullmatch(r"[0-9]{1,4}:[0-9]{1,4}:[0-9]{1,4}", bare):
        return _from_ratio(*(int(n) for n in bare.split(":")))
    phases: list[str] = []
    for item in bare.split(",", MAX_CYCLE):
        found = _phases_in(item)
        phases += found
        if not found or len(phases) > MAX_CYCLE:
            raise _unknown(text, item)
    named = any(len(phase) > 1 for phase in phases)
    return ("," if named else "").join(phases)


def _phases_in(item: str) -> list[str]:
    """Letters, or a name; none where it is neither."""
    letters = item.upper()
    if set(letters) <= PHASES.keys():
        return list(letters)
    return [item.lower()] if item.lower() in PHASES else []


def _unknown(text: str, item: str) -> ConfigError:
    known = ", ".join(f"{name} ({phase.title})" for name, phase in PHASES.items())
    return ConfigError(
        f"schedule is '{text:.60}'; expected a ratio S:B:H such as '1:6:2', a cycle of letters such as "
        f"'BBSBBH', or phases between commas such as 'brp,B,S', {MAX_CYCLE} of them at most. Phases are "
        f"{known}{did_you_mean(item, PHASES)}"
    )


def _from_ratio(n_s: int, n_b: int, n_h: int) -> str:
    others = "S" * n_s + "H" * n_h
    if not others:
        if not n_b:
            raise ConfigError("schedule is '0:0:0'; expected at least one number above 0")
        return "B"
    each, extra = divmod(n_b, len(others))
    return "".join("B" * (each + (i < extra)) + letter for i, letter in enumerate(others))


@checked
def phases_of(cycle: str) -> tuple[str, ...]:
    """Letters and names of the phases of a cycle, as :func:`parse_schedule` gives it."""
    return tuple(cycle.split(",") if "," in cycle or cycle in PHASES else cycle)


@checked
def ratio_of(cycle: str) -> tuple[int, int, int]:
    """Counts (S, B, H) of a cycle."""
    phases = phases_of(cycle)
    return phases.count("S"), phases.count("B"), phases.count("H")


@checked
def phase_at(cycle: str, index: int) -> str:
    """Letter or name of the phase of epoch (or batch) ``index``, counted from 0."""
    phases = phases_of(cycle)
    return phases[index % len(phases)]
