"""Files: locks, atomic writes, and checked reading of archives and HDF5."""

from __future__ import annotations

from biril_nm.storage.locks import lock_folder
from biril_nm.storage.npz import map_npy, read_npz, write_npz
from biril_nm.storage.paths import atomic_directory, atomic_file, check_output, reports_full_disk

__all__ = [
    "atomic_directory",
    "atomic_file",
    "check_output",
    "lock_folder",
    "map_npy",
    "read_npz",
    "reports_full_disk",
    "write_npz",
]
