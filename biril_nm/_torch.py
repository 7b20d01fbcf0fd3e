"""Packages made of torch import this first: without torch it raises one error, with what to install."""

from __future__ import annotations

from biril_nm.optional import library

for _name in ("torch", "snntorch"):
    library(_name, "torch", "train, load and export networks of torch")


def float32_is_exact() -> bool:
    """Whether torch computes products of float32 as such on every device."""
    import torch

    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # torch 2.9 and later, if back ends were set to different precisions
        return False
