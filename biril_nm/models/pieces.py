"""Convolutions on the CPU in pieces of samples, so that a piece and its result stay in the cache.

Time folded into the samples makes tensors far larger than the cache, and the layouts that the library of
convolutions makes of them as large again, in fresh memory each time. In pieces only the input and the
result are large. Results are those of the whole bit for bit; gradients of weights sum over the pieces.
These are short, since the library adds up place after place: its error grows with their number, and all
steps have many times those of one.

In bfloat16 the library takes pictures whose channels are last in memory as they are: those are convolved
at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._ops import ops
from torch.autograd.function import once_differentiable
from torch.nn import functional

from biril_nm.models import layout
from biril_nm.neurons.memory import empty
from biril_nm.neurons.norms import called_plainly
from biril_nm.neurons.spike_sums import pays, weight_gradient
from biril_nm.neurons.unroll import LOOPS, current_engine

__all__ = ["can_cut", "convolve", "gradients"]

PIECE = 8 << 20  # bytes of input and result that a piece may have
# Samples of a piece; torch takes other algorithms for fewer (use_mkldnn in Convolution.cpp).
LEAST_ROWS = 16
LONGEST_SUM = 1 << 15  # places of all samples that one gradient of weights adds up, in float32
CUT = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # layers that are computed in pieces
LEAST_CHANNELS = 48  # from which these gradients are faster as products of matrices than in float32
NARROW = 6  # least width at which gradients of weights are as fast in bfloat16 as elsewhere
Settings = tuple[Any, ...]  # of torch.convolution, from the stride on


def can_cut(layer: Any, x: Any) -> bool:
    """Whether :func:`convolve` means the same as ``layer(x)`` and is faster."""
    return (
        type(layer) in CUT
        and isinstance(x, Tensor)
        and x.device.type == layer.weight.device.type == "cpu"
        and x.is_floating_point()
        and x.ndim == layer.weight.ndim
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and called_plainly(layer)
        and (_is_large(layer, x) or _slow(x, layer.weight, layer.stride))
    )


def _is_large(layer: Any, x: Tensor) -> bool:
    """Whether input and result leave the cache, or gradients in float32 would add up too many places."""
    if 2 * x.numel() * x.element_size() > PIECE:
        return True
    sides = zip(x.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride)
    places = len(x) * prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in sides)
    n_bytes = (x.numel() + places * layer.out_channels) * x.element_size()
    return (n_bytes > PIECE or places > LONGEST_SUM) and not layout.pays(x)


def _slow(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Whether oneDNN 3.3 may be far slower in bfloat16 than in float32 at gradients of weights.

    Its threads wait for each other at every piece there, for long where a core has other work.
    """
    wide = max(weight.shape[2:]) > 1 and (max(stride) > 1 or x.shape[-1] < NARROW)
    return x.dtype == torch.bfloat16 and wide


def convolve(layer: nn.Module, x: Tensor, bits: Tensor | None = None) -> Tensor:
    """``layer(x)`` of a layer that :func:`can_cut`.

    Args:
        layer: the convolution.
        x: its input, ``(samples, channels, ...)``.
        bits: the input, which is 0 and 1, as bool: that is kept for the backward pass.
    """
    conv = cast(Any, layer)
    settings = (conv.stride, conv.padding, conv.dilation, False, (0,) * len(conv.stride))
    node: Any = _Pieces
    found: Tensor = node.apply(x, conv.weight, conv.bias, (*settings, conv.groups), bits)
    return found


def _pieces(n: int, row_bytes: int, weight: Tensor, row_places: int = 0) -> Iterator[slice]:
    """Pieces of ``n`` samples, of about equal size, and not small beside the weights.

    ``row_places``: places of a sample whose gradients are added up.
    """
    size = max(PIECE, 2 * weight.numel() * weight.element_size())
    count = max(n * row_bytes // size, -(-n * row_places // LONGEST_SUM))
    count = max(1, min(n // LEAST_ROWS, count))
    for begin, end in pairwise(i * n // count for i in range(count + 1)):
        yield slice(begin, end)


def _numbers(x: Tensor) -> Tensor:
    """Without bool, whose conversion torch has no vectors for."""
    return x.view(torch.uint8) if x.dtype == torch.bool else x


def _last(x: Tensor) -> Tensor:
    """Pictures with their channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def _row_bytes(*tensors: Tensor) -> int:
    return sum(t[0].numel() * t.element_size() for t in tensors)


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        settings: Settings,
        bits: Tensor | None,
    ) -> Tensor:
        conv: Any = (torch.conv1d, torch.conv2d, torch.conv3d)[x.ndim - 3]
        stride, padding, dilation, *_, groups = settings
        further = (stride, padding, dilation, groups)
        # Autocast keeps what it casts for later calls, and here nothing has a gradient: detached is not kept.
        low = [None if t is None else t.detach() for t in (weight, bias)]
        one = conv(x[:1], *low, *further)  # its shape, and autocast's type
        low = [None if t is None else t.to(one.dtype) for t in low]
        ctx.settings, ctx.dtype, ctx.with_bias = settings, x.dtype, bias is not None
        ctx.in_loops = current_engine() in LOOPS
        ctx.last = one.ndim == 4 and one.dtype == torch.bfloat16
        if ctx.last:
            given = _last(x.to(one.dtype))
            ctx.save_for_backward(given if bits is None else bits, weight)
            return cast(Tensor, conv(given, *low, *further))
        out = empty((len(x), *one.shape[1:]), one)
        for piece in _pieces(len(x), _row_bytes(x, one), weight):
            out[piece] = conv(x[piece].to(one.dtype), *low, *further)
        ctx.save_for_backward(x if bits is None else bits, weight)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        low, mask = weight.to(grad.dtype), list(ctx.needs_input_grad[:3])
        sizes = list(weight.shape[:1]) if ctx.with_bias else None
        if ctx.last:
            whole = (_last(grad), _last(x), _last(low))
            part, *shared = _of_piece(whole, sizes, ctx.settings, mask, ctx.in_loops)
            types = (ctx.dtype, weight.dtype, weight.dtype)
            cast_back = (t if t is None else t.to(d) for t, d in zip((part, *shared), types))
            return *cast_back, None, None
        at_x = empty(x.shape, grad, ctx.dtype) if mask[0] else None
        sums: list[Tensor | None] = [None, None]
        places = prod(grad.shape[2:]) if grad.dtype == torch.float32 and any(mask[1:]) else 0
        for piece in _pieces(len(x), _row_bytes(grad, grad), weight, places):
            given = (grad[piece], x[piece], low)
            part, *shared = _of_piece(given, sizes, ctx.settings, mask, ctx.in_loops)
            if at_x is not None:
                at_x[piece] = cast(Tensor, part)
            for i, found in enumerate(shared):
                if found is not None and mask[i + 1]:
                    before = sums[i]
                    sums[i] = found.to(weight.dtype) if before is None else before.add_(found)
        return at_x, *sums, None, None


def _of_piece(
    given: tuple[Tensor, Tensor, Tensor],
    sizes: list[int] | None,
    settings: Settings,
    mask: list[bool],
    in_loops: bool,
) -> tuple[Tensor | None, ...]:
    """:func:`gradients` where spikes may be kept as bytes, and compiled loops may sum over them."""
    grad, x, weight = given
    numbers = (grad, _numbers(x).to(grad.dtype), weight)
    if not (in_loops and mask[1] and pays(x, weight, grad, settings)):
        return gradients(numbers, sizes, settings, mask)
    at_x = None
    if mask[0]:
        at_x, *_ = gradients(numbers, None, settings, [True, False, False])
    at_bias = _sums(grad) if mask[2] else None
    return at_x, weight_gradient(x, grad.float(), weight.shape, settings), at_bias


def _sums(grad: Tensor) -> Tensor:
    """The gradient of the bias."""
    return grad.transpose(0, 1).flatten(1).sum(1, dtype=torch.float32)


def gradients(
    given: tuple[Tensor, Tensor, Tensor],
    sizes: list[int] | None,
    settings: Settings,
    mask: list[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of input, weights and bias by products, None where ``mask`` says that they are not needed.

    Args:
        given: gradient of the result, input and weights, of one type.
        sizes: shape of the bias, None if there is none.
        settings: of torch.convolution.
        mask: whether each of the three is needed.
    """
    backward: Any = ops.aten.convolution_backward
    if not (mask[1] and _slow(*given[1:], settings[0])):
        found: tuple[Tensor | None, ...] = backward(*given, sizes, *settings, mask)
        return found
    at_x = None
    if mask[0]:
        at_x, *_ = backward(*given, None, *settings, [True, False, False])
    grad, x, weight = given
    if settings[-1] == 1 and min(weight.shape[:2]) >= LEAST_CHANNELS:
        at_bias = _sums(grad) if mask[2] else None
        return at_x, _by_taps(grad, x, weight.shape, settings), at_bias
    single = tuple(t.float() for t in given)
    _, *shared = backward(*single, sizes, *settings, [False, *mask[1:]])
    return at_x, *shared


def _by_taps(grad: Tensor, x: Tensor, shape: Sequence[int], settings: Settings) -> Tensor:
    """The gradient of the weights as one product of matrices for each place k of the kernel.

    dw[o, c, k] = sum over samples n and places p of grad[n, o, p] x[n, c, stride p + dilation k - padding]
    """
    stride, padding, dilation = settings[:3]
    sides = [side for each in reversed(padding) for side in (each, each)]
    last = functional.pad(x.movedim(1, -1), [0, 0, *sides])  # channels last, where rows are whole
    rows = grad.movedim(1, -1).flatten(0, -2).T
    found = grad.new_empty(tuple(shape))
    for taps in product(*(range(size) for size in shape[2:])):
        cut = [
            slice(k * d, k * d + s * (n - 1) + 1, s)
            for k, d, s, n in zip(taps, dilation, stride, grad.shape[2:])
        ]
        read: Any = (slice(None), *cut)
        written: Any = (..., *taps)
        found[written] = rows @ last[read].reshape(-1, shape[1])
    return found
