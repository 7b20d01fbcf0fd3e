"""Data sets, their augmentation, and shifts of their images."""

from __future__ import annotations

from biril_nm.data.batches import Batches, Loaders, make_loaders
from biril_nm.data.datasets import DATASETS, load_data
from biril_nm.data.shifts import SHIFTS, Shift, get_shift
from biril_nm.data.sources import DataSource, Option, Request
from biril_nm.data.splits import DataSet, Split

__all__ = [
    "DATASETS",
    "SHIFTS",
    "Batches",
    "DataSet",
    "DataSource",
    "Loaders",
    "Option",
    "Request",
    "Shift",
    "Split",
    "get_shift",
    "load_data",
    "make_loaders",
]
