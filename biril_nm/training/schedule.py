"""Schedules: cycles of the phases B (STBP), S (STDP) and H (STDP-STBP), and of the controls F and I.

A cycle is a text such as ``"BBSBBH"``. A ratio S:B:H (the paper's order STDP:STBP:STDP-STBP) becomes a
cycle by listing S n_S times, then H n_H times, and putting the B's evenly before each of them:
``1:4:1`` gives BBSBBH and ``2:6:1`` BBSBBSBBH, the two three-phase cycles of the published code.
The length of the cycle is derived, never given. F (frozen) and I (idle) take the place of S where a study
asks what S is worth.
"""

from __future__ import annotations

import re

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError

__all__ = ["LETTERS", "parse_schedule", "phase_at", "ratio_of"]

LETTERS = "BSHFI"
MAX_CYCLE = 10_000


@checked
def parse_schedule(text: str) -> str:
    """The cycle meant by a ratio ``"1:6:2"`` or a written cycle ``"BBSBBH"``.

    Raises:
        ConfigError: neither of the two, with an example of each.
    """
    bare = str(text).replace(" ", "").upper()
    if re.fullmatch(r"\d{1,4}:\d{1,4}:\d{1,4}", bare):
        return _from_ratio(*(int(n) for n in bare.split(":")))
    if bare and len(bare) <= MAX_CYCLE and set(bare) <= set(LETTERS):
        return bare
    raise ConfigError(
        f"schedule is '{text:.60}'; expected a ratio S:B:H such as '1:6:2', or a cycle of the letters "
        f"B (STBP), S (STDP), H (STDP-STBP), F (frozen), I (idle) such as 'BBSBBH'"
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
def ratio_of(cycle: str) -> tuple[int, int, int]:
    """Counts (S, B, H) of a cycle."""
    return cycle.count("S"), cycle.count("B"), cycle.count("H")


@checked
def phase_at(cycle: str, index: int) -> str:
    """Letter of epoch (or batch) ``index``, counted from 0."""
    return cycle[index % len(cycle)]
