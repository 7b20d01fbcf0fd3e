"""Gradients of weights from spikes: sums over the spikes against torch's convolution, by the share of spikes.

    python benchmarks/spike_sums.py [--rounds 9] [--threads 2]

Both start from spikes kept as bytes, as after a forward pass, and the gradient of the result in float32; in
the second table in bfloat16, in which the other way computes, with channels last in memory. The figures are
how many times as fast the sums are, from medians of calls in turn. Sums are chosen up to the share SHARE of
biril_nm.neurons.spike_sums, LOW_SHARE in bfloat16, and for layers that are not marked with a star.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import cast

import torch
from measuring import take_turns
from page import table
from torch import Tensor, nn

from biril_nm.models.pieces import gradients
from biril_nm.neurons.spike_sums import LOW_SHARE, SHARE, pays, weight_gradient
from biril_nm.storage.platform import keep_freed_memory
from biril_nm.training.precision import has_bfloat16

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
BATCH = 256
LAYERS = [  # input channels, output channels, width, stride; the samples of a piece
    (32, 32, 32, 1, 32),
    (64, 64, 32, 1, 16),
    (64, 128, 32, 2, 16),
    (128, 128, 16, 1, 32),
    (256, 256, 8, 1, 64),
    (256, 512, 8, 2, 128),
    (512, 512, 4, 1, 256),
    (3, 64, 32, 1, 64),
    (64, 64, 32, 4, 16),
    (64, 256, 32, 4, 16),
]


def faster(layer: tuple[int, ...], share: float, rounds: int, dtype: torch.dtype) -> float:
    """How many times as fast sums over the spikes are as products."""
    before, after, width, stride, n = layer
    conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    low = dtype == torch.bfloat16  # in which all samples are one piece
    order = torch.channels_last if low else torch.contiguous_format
    x = torch.rand(max(n, BATCH) if low else n, before, width, width) < share
    grad = torch.randn_like(conv(x.float())).detach().to(dtype, memory_format=order)
    settings = (conv.stride, conv.padding, conv.dilation, False, (0, 0), 1)
    x, weight = x.contiguous(memory_format=order), conv.weight.detach().to(dtype)

    def products() -> Tensor:
        numbers = (grad, x.view(torch.uint8).to(dtype), weight)
        return cast(Tensor, gradients(numbers, None, settings, [False, True, False])[1])

    def sums() -> Tensor:
        return weight_gradient(x, grad.float(), weight.shape, settings)

    size = float(sums().abs().max())
    torch.testing.assert_close(
        sums(), products().float(), rtol=2e-2 if low else 1e-4, atol=1e-2 * size if low else 1e-2
    )
    with keep_freed_memory():
        seconds = take_turns({"products": products, "sums": sums}, rounds)
    return median(seconds["products"]) / median(seconds["sums"])


def chosen(layer: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether training takes sums for this layer where few neurons fire."""
    before, after, width, stride, n = layer
    conv = nn.Conv2d(before, after, 3, stride, padding=1)
    x = torch.zeros(n, before, width, width)
    settings = (conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups)
    return pays(x.bool(), conv.weight.detach(), conv(x).detach().to(dtype), settings)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"times as fast, torch {torch.__version__}, {args.threads} threads")
    tables = [(torch.float32, SHARE)]
    tables += [(torch.bfloat16, LOW_SHARE)] if has_bfloat16("cpu") else []
    for dtype, most in tables:
        print(f"\n{dtype}, chosen up to {most:.0%}\n")
        heads = ["channels", "width", "stride", *(f"{share:.0%}" for share in SHARES)]
        rows = []
        for layer in LAYERS:
            figures = [f"{faster(layer, share, args.rounds, dtype):.1f}" for share in SHARES]
            star = "" if chosen(layer, dtype) else " *"
            rows.append([f"{layer[0]} to {layer[1]}{star}", str(layer[2]), str(layer[3]), *figures])
        print(table(heads, rows), flush=True)


if __name__ == "__main__":
    main()
