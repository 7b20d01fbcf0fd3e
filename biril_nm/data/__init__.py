"""Data sets, and shifts of their images."""

from __future__ import annotations

from biril_nm.data.datasets import (
    DATASETS,
    Batches,
    DataSet,
    Loaders,
    Split,
    load_data,
    make_loaders,
)
from biril_nm.data.shifts import SHIFTS, Shift, get_shift

__all__ = [
    "DATASETS",
    "SHIFTS",
    "Batches",
    "DataSet",
    "Loaders",
    "Shift",
    "Split",
    "get_shift",
    "load_data",
    "make_loaders",
]
