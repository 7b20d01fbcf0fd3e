"""What engine ``torch-int`` runs: a LoihiGraph in exact integers, as tensors on any device of torch."""

from __future__ import annotations

import biril_nm._torch  # noqa: F401
from biril_nm.engines.torch_integers.run import run_integers

__all__ = ["run_integers"]
