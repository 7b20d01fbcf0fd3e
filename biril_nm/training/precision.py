"""Which numbers a network computes with during training."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["PRECISIONS", "choose_precision", "has_bfloat16"]

PRECISIONS = ("auto", "float32", "bfloat16")
CPU_FLAGS = ("avx512_bf16", "amx_bf16")
INFO = Path("/proc/cpuinfo")


def has_bfloat16(device: str) -> bool:
    """Whether a kind of device multiplies in bfloat16: without, autocast is slower than float32."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8
    if device != "cpu" or not INFO.exists():
        return False
    flags = INFO.read_text(encoding="utf-8", errors="replace")
    return any(f" {flag}" in flags for flag in CPU_FLAGS)


def choose_precision(name: str, device: torch.device) -> str:
    """``"auto"`` is bfloat16 where the device has it, else float32."""
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16(device.type) else "float32"
