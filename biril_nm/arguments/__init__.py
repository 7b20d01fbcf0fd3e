"""Arguments of public functions and classes, held against their annotations before anything runs."""

from __future__ import annotations

from biril_nm.arguments.checked import checked
from biril_nm.arguments.kinds import MAX_SEED, Between, Count, Integers, Numbers, Seed, Unchecked
from biril_nm.arguments.texts import did_you_mean, shown, unknown_name

__all__ = [
    "MAX_SEED",
    "Between",
    "Count",
    "Integers",
    "Numbers",
    "Seed",
    "Unchecked",
    "checked",
    "did_you_mean",
    "shown",
    "unknown_name",
]
