"""Packages made of torch import this first: without torch it raises one error, with what to install."""

from __future__ import annotations

import os

from biril_nm.optional import library

for _name in ("torch", "snntorch"):
    library(_name, "torch", "train, load and export networks of torch")


# Kinds of arithmetic in which a float32 stays one, as torch 2.9 and later name them.
_FULL = ("ieee", "none", "default")


def float32_is_exact() -> bool:
    """Whether torch computes products of float32 as such on every device."""
    import torch

    # oneDNN's own switch, which torch does not show: https://uxlfoundation.github.io/oneDNN (fpmath mode).
    modes = (os.environ.get(f"{name}_DEFAULT_FPMATH_MODE", "") for name in ("ONEDNN", "DNNL"))
    if any(mode.upper() not in ("", "STRICT") for mode in modes):
        return False
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # torch 2.9 and later, if back ends were set to different precisions
        return False


def float32_convolves() -> bool:
    """Whether a convolution of float32 on the CPU adds plain products, as oneDNN does.

    Where oneDNN is missing (wheels for macOS on ARM) or switched off, torch takes NNPACK from 16 samples on,
    whose Winograd transform multiplies by fractions (``use_nnpack`` in torch's Convolution.cpp). Float64
    is always im2col and a matrix product.
    """
    from torch.backends import mkldnn, nnpack

    if mkldnn.is_available() and mkldnn.enabled:  # type: ignore[no-untyped-call]
        convolution = getattr(mkldnn, "conv", None)  # torch 2.9 and later
        return getattr(convolution, "fp32_precision", "ieee") in _FULL
    return not nnpack.is_available()  # type: ignore[no-untyped-call]
