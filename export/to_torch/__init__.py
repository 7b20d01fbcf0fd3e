"""NIR to torch: a module of snnTorch neurons and torch layers with the same spikes."""

from __future__ import annotations

import biril_nm._torch  # noqa: F401
