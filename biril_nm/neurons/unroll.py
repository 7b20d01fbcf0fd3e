"""A layer of neurons over all time steps in one autograd node: the fast path of training.

Equal to calling snnTorch's ``Leaky`` step by step from rest, whatever its reset
(:mod:`biril_nm.neurons.recurrence`): spikes and membrane bit for bit, gradients up to rounding. The node
keeps one tensor for the backward pass, its input, and computes the states from it again. Where other layers
keep what the input is computed from, it keeps only that (``biril_nm/neurons/again.py``).

Three engines compute it: ``"numba"``, compiled loops for the CPU (:mod:`biril_nm.neurons.kernels`);
``"compiled"``, the recurrence compiled by torch, for CUDA and any CPU with a C++ compiler; ``"eager"``,
the recurrence as it is. ``"auto"`` takes the first on the CPU and the second on CUDA.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import snntorch as snn
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biril_nm.neurons import kernels
from biril_nm.neurons.again import Again
from biril_nm.neurons.memory import put_last, to_order
from biril_nm.neurons.norms import (
    Moments,
    called_plainly,
    can_normalise,
    moments_of,
    through_norm,
)
from biril_nm.neurons.plif import AveragingLeaky
from biril_nm.neurons.recurrence import Reset, backward_steps, forward_steps
from biril_nm.neurons.surrogates import Surrogate, formula, is_step, slope, slope_function

__all__ = [
    "ENGINES",
    "LEAKY",
    "can_join",
    "can_pool",
    "can_unroll",
    "current_engine",
    "engine",
    "unroll",
]

ENGINES = ("auto", "numba", "compiled", "eager", "loop")  # names that :func:`engine` takes
LOOPS = ("auto", "numba")  # those that compute in compiled loops on the CPU
HALF = (torch.bfloat16, torch.float16)
LEAKY = (snn.Leaky, AveragingLeaky)  # layers that are computed over all steps at once
UPDATES = {
    snn.Leaky._base_sub: "subtract",
    snn.Leaky._base_zero: "zero",
    snn.Leaky._base_int: "none",
}  # of the state in a step, to what the neuron calls its reset
CHUNK = 16  # steps that torch compiles into one loop

log = logging.getLogger(__name__)
_engine: ContextVar[str] = ContextVar("engine", default="auto")
_broken: set[tuple[str, Any]] = set()  # kinds of devices on which a compiler failed


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose what computes neurons, one of :data:`ENGINES`; ``"loop"`` calls networks step by step."""
    token = _engine.set(name)
    try:
        yield
    finally:
        _engine.reset(token)


def current_engine() -> str:
    """The engine that was chosen."""
    return _engine.get()


def can_unroll(neuron: Any) -> bool:
    """Whether :func:`unroll` means the same as calling ``neuron`` step by step."""
    return (
        type(neuron) in LEAKY
        and called_plainly(neuron)
        and not any(callable(getattr(type(neuron), name, None)) for name in vars(neuron))
        and not (neuron.state_quant or neuron.inhibition or neuron.surrogate_disable)
        and bool((neuron.graded_spikes_factor.detach() == 1).all())
        and not neuron.graded_spikes_factor.requires_grad
        and is_step(neuron.spike_grad)
        and _reset(neuron) is not None
        and bool((neuron.threshold.detach() >= 0).all())
    )


def can_pool(neuron: Any, current: Tensor) -> bool:
    """Whether :func:`unroll` may average spikes over 2x2 in the same loop."""
    even = current.ndim > 3 and not (current.shape[-1] % 2 or current.shape[-2] % 2)
    return even and can_unroll(neuron) and _loops(neuron, current) is not None


def can_join(neuron: Any, norm: Any, current: Tensor) -> bool:
    """Whether :func:`unroll` may apply BatchNorm to ``current``, ``(samples, channels, ...)``, as well."""
    return (
        type(neuron) is snn.Leaky
        and can_unroll(neuron)
        and can_normalise(norm, current)
        and _loops(neuron, current) is not None
    )


def unroll(
    neuron: snn.Leaky,
    current: Tensor,
    n_steps: int | None = None,
    pooled: bool = False,
    start: Tensor | None = None,
    norm: nn.Module | None = None,
    last: bool = False,
    again: Again | None = None,
) -> tuple[Tensor, Tensor]:
    """Spikes of all steps and the membrane after the last one.

    Args:
        neuron: a layer that :func:`can_unroll`.
        current: its input, that of the norm if there is one.
        n_steps: how often to show ``current`` if it holds one step for all.
        pooled: average the spikes over 2x2 (:func:`can_pool`).
        start: membrane before the first step; None: rest.
        norm: BatchNorm between ``current`` and the neurons (:func:`can_join`).
        last: leave channels of pictures last in memory, where the compiled loops take them.
        again: how ``current``, with time folded into the batch, is computed again; the compiled loops then
            keep that for the backward pass.

    Shape:
        current ``(n_steps or 1, batch, *shape)`` and start ``(batch, *shape)`` to spikes ``(n_steps,
        batch, *shape)`` and the membrane ``(batch, *shape)``.
    """
    n_steps = current.shape[0] if n_steps is None else n_steps
    if isinstance(neuron, AveragingLeaky):
        current, again = neuron.gain * current, None
    beta, threshold = neuron.beta.clamp(0, 1), neuron.threshold
    layer, nodes = _loops(neuron, current), cast(Any, (_Steps, _Loops))
    if layer is None:
        more = (threshold, start, n_steps, _reset(neuron), neuron.spike_grad)
        return cast(tuple[Tensor, Tensor], nodes[0].apply(current, beta, *more))
    layer.last = last and current.ndim == 5
    if layer.last and start is not None:
        start = put_last(start, 1)
    kept = None if again is None else _in_steps(again, current.shape, layer.last)
    current, owner = _laid(current, layer.last), cast(Any, norm)
    moments = None if norm is None else moments_of(norm, current.flatten(0, 1), layer.last)
    weights = (None, None) if norm is None else (owner.weight, owner.bias)
    how = _How(n_steps, layer, pooled, moments, kept)
    spikes, mem = nodes[1].apply(current, beta, start, *weights, how)
    return (to_order(spikes, 2), to_order(mem, 1)) if layer.last else (spikes, mem)


def _laid(current: Tensor, last: bool) -> Tensor:
    """The input as the loops take it, contiguous, with channels last or not."""
    return put_last(current, 2) if last else current.contiguous()


def _in_steps(again: Again, shape: torch.Size, last: bool) -> Again:
    make = again.make
    return Again(again.tensors, lambda *kept: _laid(make(*kept).view(shape), last))


def _reset(neuron: Any) -> Reset | None:
    """How a neuron resets, None if it does so in two ways.

    It chooses its update when it is made; a reset that is set or loaded later reaches the end of a step only.
    """
    kind = UPDATES.get(getattr(neuron.state_function, "__func__", None))
    if kind is None or neuron.state_function.__self__ is not neuron:
        return None
    late = bool(neuron.reset_delay)
    if not late and neuron.reset_dict[kind] != int(neuron.reset_mechanism_val):
        return None
    return Reset(kind == "subtract", kind == "zero", not late and kind != "none")


def _loops(neuron: Any, current: Tensor) -> kernels.Layer | None:
    """The layer for compiled loops of the CPU, None if they do not take it."""
    kind, reset = formula(neuron.spike_grad), _reset(neuron)
    plain = (
        _engine.get() in LOOPS
        and kind is not None
        and current.device.type == "cpu"
        and current.dtype in (torch.float32, torch.bfloat16)
        and neuron.beta.numel() == neuron.threshold.numel() == 1
        and not neuron.threshold.requires_grad
    )
    if not plain or kind is None or reset is None:
        return None
    beta = neuron.beta.detach().clamp(0, 1)
    learned = bool(neuron.beta.requires_grad)
    return kernels.Layer(float(beta), float(neuron.threshold), reset, kind, learned)


class _How(NamedTuple):
    n_steps: int
    layer: kernels.Layer
    pooled: bool
    moments: Moments | None  # of a norm before the neurons
    again: Again | None  # how the input is computed again; None: it is kept


class _Loops(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        beta: Tensor,
        start: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        how: _How,
    ) -> tuple[Tensor, Tensor]:
        start = None if start is None else start.contiguous()
        kept = (current,) if how.again is None else how.again.tensors
        ctx.save_for_backward(beta, start, weight, *kept)
        ctx.make = None if how.again is None else how.again.make
        ctx.how = how._replace(again=None)
        ctx.set_materialize_grads(False)
        if how.moments is not None:
            how.layer.affine = how.moments.affine(weight, bias)
        return kernels.forward(how.layer, current, how.n_steps, how.pooled, start)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        beta, start, weight, *kept = ctx.saved_tensors
        how: _How = ctx.how
        current = kept[0] if ctx.make is None else ctx.make(*kept)
        found = kernels.backward(how.layer, current, grads, how.n_steps, how.pooled, start)
        grad, at_start, by_beta = found
        summed = None if by_beta is None else _summed(by_beta, beta)
        shared: tuple[Any, Any] = (None, None)
        if how.moments is not None:
            x, g = current.flatten(0, 1), grad.flatten(0, 1)
            shared = through_norm(g, x, weight, how.moments, g)
        return grad, summed, at_start, *(shared if weight is not None else (None, None)), None


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        beta: Tensor,
        threshold: Tensor,
        start: Tensor | None,
        n_steps: int,
        reset: Reset,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(current, beta, threshold, start)
        ctx.reset, ctx.surrogate, ctx.n_steps = reset, surrogate, n_steps
        run = _run(forward_steps, current, n_steps)
        spikes, mem = run(_single(current), n_steps, beta, threshold, reset, start)
        return spikes.to(current.dtype), mem

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor, grad_mem: Tensor) -> tuple[Any, ...]:
        current, *further = ctx.saved_tensors
        tensors = (_single(current), *further)
        learned = (ctx.needs_input_grad[1], ctx.needs_input_grad[2])
        pure = slope_function(ctx.surrogate)
        run = _run(backward_steps, tensors[0], ctx.n_steps) if pure else backward_steps
        psi = pure or (lambda x: slope(ctx.surrogate, x))
        grads = (_single(grad_spikes), grad_mem)
        grad, *shared, grad_start = run(tensors, grads, ctx.reset, psi, learned)
        summed = [g if g is None else _summed(g, t) for g, t in zip(shared, tensors[1:])]
        at_start = grad_start if ctx.needs_input_grad[3] else None
        return (grad.to(current.dtype), *summed, at_start, None, None, None)


def _single(x: Tensor) -> Tensor:
    """States of neurons are float32 where layers compute in less."""
    return x.float() if x.dtype in HALF else x


def _summed(grad: Tensor, parameter: Tensor) -> Tensor:
    return grad.sum_to_size(parameter.shape)


def _run(function: Callable[..., Any], current: Tensor, n_steps: int) -> Callable[..., Any]:
    """``function``, compiled by torch where that is chosen and works."""
    device, chosen = current.device.type, _engine.get()
    wanted = chosen == "compiled" or (chosen == "auto" and device == "cuda")
    if not wanted or (device, torch.compile) in _broken or n_steps > CHUNK:
        return function

    def run(*arguments: Any) -> Any:
        try:
            return _compiled(function)(*arguments)
        except (
            Exception
        ) as error:  # no compiler, or one that fails: the same function runs as it is
            log.warning(
                "torch cannot compile neurons on %s, they run uncompiled: %s", device, error
            )
            _broken.add((device, torch.compile))
            return function(*arguments)

    return run


_functions: dict[Callable[..., Any], Callable[..., Any]] = {}


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if function not in _functions:
        _functions[function] = torch.compile(function, dynamic=True)
    return _functions[function]
