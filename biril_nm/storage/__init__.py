"""Files: locks, atomic writes, and checked reading of archives, arrays, text and HDF5."""

from __future__ import annotations

from biril_nm.storage.bounds import SMALL_BYTES, allowed_bytes, open_regular, read_bytes
from biril_nm.storage.locks import lock_folder
from biril_nm.storage.npy import map_npy, write_npy
from biril_nm.storage.npz import read_document, read_npz, write_document, write_npz
from biril_nm.storage.paths import (
    atomic_directory,
    atomic_file,
    check_output,
    keep_inputs,
    reports_full_disk,
)
from biril_nm.storage.text import (
    MAX_LINES,
    check_plain,
    parse_json,
    read_json,
    read_json_lines,
    read_toml,
)
from biril_nm.storage.zips import name_problem

__all__ = [
    "MAX_LINES",
    "SMALL_BYTES",
    "allowed_bytes",
    "atomic_directory",
    "atomic_file",
    "check_output",
    "check_plain",
    "keep_inputs",
    "lock_folder",
    "map_npy",
    "name_problem",
    "open_regular",
    "parse_json",
    "read_bytes",
    "read_document",
    "read_json",
    "read_json_lines",
    "read_npz",
    "read_toml",
    "reports_full_disk",
    "write_document",
    "write_npy",
    "write_npz",
]
