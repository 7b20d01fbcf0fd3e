"""When a population is cleared and when it rests, between the samples of a stream.

This file imports nothing of biril-nm: kernels compile it, and bundles for Lava hold a copy of it.
"""

from __future__ import annotations

__all__ = ["clearing"]


def clearing(elapsed: int, period: int, active: int) -> tuple[bool, bool]:
    """Whether all state is set to 0 before this step, and whether the neurons rest, silent, in it.

    Args:
        elapsed: steps since the first sample reached the population; negative before.
        period: steps from one sample's start to the next; 0: nothing is ever cleared.
        active: steps of a sample, outside of which the neurons rest; 0: they never rest.
    """
    if period == 0:
        return False, False
    age = elapsed % period
    rest = active > 0 and (age >= active or elapsed < 0)
    return age == 0 or rest, rest
