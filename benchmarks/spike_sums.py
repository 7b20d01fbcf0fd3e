"""Gradients of weights from spikes: sums over the spikes against torch's convolution, by the share of spikes.

    python benchmarks/spike_sums.py [--rounds 9] [--threads 2]

Both start from spikes kept as bytes, as after a forward pass, and the gradient of the result in float32.
The figures are how many times as fast the sums are, from medians of calls in turn. Sums are chosen up to
the share SHARE of biril_nm.neurons.spike_sums, and for layers that are not marked with a star.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from measuring import take_turns
from page import table
from torch import Tensor, nn
from torch._ops import ops

from biril_nm.neurons.spike_sums import SHARE, pays, weight_gradient
from biril_nm.storage.platform import keep_freed_memory

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
LAYERS = [  # input channels, output channels, width, stride; the samples of a piece
    (32, 32, 32, 1, 32),
    (64, 64, 32, 1, 16),
    (64, 128, 32, 2, 16),
    (128, 128, 16, 1, 32),
    (256, 256, 8, 1, 64),
    (512, 512, 4, 1, 256),
    (3, 64, 32, 1, 64),
    (64, 64, 32, 4, 16),
    (64, 256, 32, 4, 16),
]


def faster(layer: tuple[int, ...], share: float, rounds: int) -> float:
    """How many times as fast sums over the spikes are as the convolution."""
    before, after, width, stride, n = layer
    conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    x = torch.rand(n, before, width, width) < share
    grad = torch.randn_like(conv(x.float())).detach()
    settings = (conv.stride, conv.padding, conv.dilation)
    weight = conv.weight.detach()

    def dense() -> Tensor:
        numbers = (grad, x.view(torch.uint8).to(torch.float32), weight)
        found = ops.aten.convolution_backward(
            *numbers, None, *settings, False, (0, 0), 1, [False, True, False]
        )
        gradient: Tensor = found[1]
        return gradient

    calls = {"dense": dense, "sums": lambda: weight_gradient(x, grad, weight.shape, settings)}
    torch.testing.assert_close(calls["sums"](), dense(), rtol=1e-4, atol=1e-2)
    with keep_freed_memory():
        seconds = take_turns(calls, rounds)
    return median(seconds["dense"]) / median(seconds["sums"])


def chosen(layer: tuple[int, ...]) -> bool:
    """Whether training takes sums for this layer where few neurons fire."""
    before, after, width, stride, n = layer
    conv = nn.Conv2d(before, after, 3, stride, padding=1)
    x = torch.zeros(n, before, width, width)
    settings = (conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups)
    return pays(x.bool(), conv.weight.detach(), conv(x).detach(), settings)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(
        f"times as fast, torch {torch.__version__}, {args.threads} threads; chosen up to {SHARE:.0%}"
    )
    heads = ["channels", "width", "stride", *(f"{share:.0%}" for share in SHARES)]
    rows = []
    for layer in LAYERS:
        figures = [f"{faster(layer, share, args.rounds):.1f}" for share in SHARES]
        star = "" if chosen(layer) else " *"
        rows.append([f"{layer[0]} to {layer[1]}{star}", str(layer[2]), str(layer[3]), *figures])
    print(table(heads, rows))


if __name__ == "__main__":
    main()
