"""lava-dl's netx: HDF5 files ending in .net, read and written."""

from __future__ import annotations

from biril_nm.export.netx.files import read_netx, write_netx
from biril_nm.export.netx.input_bias import with_input_bias

__all__ = ["read_netx", "with_input_bias", "write_netx"]
