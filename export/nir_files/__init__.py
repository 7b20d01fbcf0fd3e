"""NIR graphs in files: checked reading, writing, and exact integers in metadata."""

from __future__ import annotations

from biril_nm.export.nir_files.files import read_nir, write_nir

__all__ = ["read_nir", "write_nir"]
