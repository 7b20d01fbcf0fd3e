"""torch to NIR: the module is run, and every tensor followed."""

from __future__ import annotations

import biril_nm._torch  # noqa: F401
from biril_nm.export.from_torch.translate import to_nir

__all__ = ["to_nir"]
