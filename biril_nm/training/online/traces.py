"""Traces of one layer: what online learning keeps of the past, the same size at every step.

A block of steps is taken in at once. For D-RTRL

    eps_K = D_K ... D_1 eps_0 + sum_t (D_K ... D_{t+1} f_t) x_t
    gradient of the block = sum_t (a_t f_t) x_t + (D_1' a_1) eps_0,    a_t = l_t + D_{t+1}' a_{t+1}

are the same sums as step by step, with one pass over eps for each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from biril_nm.training.online.blocks import Block, adjoint, dot, matrix_vector, products, tail
from biril_nm.training.online.layer import OnlineLayer, filtered
from biril_nm.training.online.neurons.neuron import Row
from biril_nm.training.online.rules import D_RTRL, HYBRID, OnlineRule

__all__ = ["LayerTraces", "Passed"]


class Passed:
    """What a layer did in a block of steps, and what the loss says of it.

    Attributes:
        d: D, rows of entries (steps, batch, neurons).
        f: for each synaptic input, a row.
        g: for each parameter of the neurons, a row.
        signals: dL_t/dh_t; all None where no step of the block has a loss.
        sources: for each projection, (steps, batch, sources).
        first: index of the first step.
    """

    def __init__(
        self, d: Block, f: tuple[Row, ...], g: tuple[Row, ...], signals: Row,
        sources: Mapping[str, Tensor], first: int,
    ) -> None:  # fmt: skip
        self.d, self.f, self.g, self.signals = d, f, g, signals
        self.sources, self.first = sources, first

    @property
    def learns(self) -> bool:
        """Whether a step of the block has a loss."""
        return any(part is not None for part in self.signals)

    @cached_property
    def products(self) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """Products of D to the end of the block."""
        if all(entry is None for row in self.d for entry in row):
            return self._forgetful()
        return products(self.d)

    def _forgetful(self) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """D is zero: only the last step is left."""
        like = next(e for row in (*self.f, *self.g) for e in row if e is not None)
        last = torch.zeros_like(like)
        last[-1] = 1.0
        size = len(self.d)
        each = tuple(tuple(last if i == j else None for j in range(size)) for i in range(size))
        return each, tuple((None,) * size for _ in range(size))

    @cached_property
    def adjoint(self) -> tuple[Row, Row]:
        """Adjoints of all steps, and of the step before the block."""
        return adjoint(self.d, self.signals)


def _outer(left: Tensor, x: Tensor) -> Tensor:
    """``sum_t left_t x_t`` of each sample, (batch, neurons, sources)."""
    return torch.bmm(left.permute(1, 2, 0), x.permute(1, 0, 2))


def _summed(left: Tensor, x: Tensor) -> Tensor:
    """``sum over steps and samples of left x``, (neurons, sources)."""
    return left.flatten(0, 1).T @ x.flatten(0, 1)


class _Whole:
    """eps of D-RTRL for a weight matrix, (batch, neurons, sources) for each state."""

    def __init__(self, states: int, channel: int, rule: OnlineRule) -> None:
        self.eps: list[Tensor | None] = [None] * states
        self.channel, self.rule = channel, rule

    def take(self, passed: Passed, x: Tensor) -> Tensor | None:
        """Gradient of the block; eps moves to its end."""
        f = passed.f[self.channel]
        if self.rule.max_norm:
            return self._bounded(passed, f, x)
        gradient = None
        if passed.learns:
            each, before = passed.adjoint
            factor = dot(each, f)
            gradient = None if factor is None else _summed(factor, x)
            for a, eps in zip(before, self.eps):
                if a is not None and eps is not None:
                    old = torch.einsum("bo,boi->oi", a, eps)
                    gradient = old if gradient is None else gradient + old
        each_product, whole = passed.products
        fresh = matrix_vector(each_product, f)
        self.eps = [
            _moved(row, self.eps, None if new is None else _outer(new, x))
            for row, new in zip(whole, fresh)
        ]
        return gradient

    def _bounded(self, passed: Passed, f: Row, x: Tensor) -> Tensor | None:
        """One step, with the normalisation of the published code."""
        found: list[Tensor | None] = []
        for row, entry in zip(passed.d, f):
            new = None if entry is None else _normed(_outer(entry, x))
            first = [None if e is None else e[0] for e in row]
            moved = _moved(first, self.eps, new)
            found.append(None if moved is None else _normed(moved))
        self.eps = found
        gradient = None
        for part, eps in zip(passed.signals, self.eps):
            if part is not None and eps is not None:
                more = torch.einsum("bo,boi->oi", part[0], eps)
                gradient = more if gradient is None else gradient + more
        return gradient

    def tensors(self) -> list[Tensor]:
        """What is kept."""
        return [eps for eps in self.eps if eps is not None]


def _normed(x: Tensor) -> Tensor:
    return x / x.abs().amax().clamp_min(1.0)


def _moved(
    row: Row | list[Tensor | None], eps: list[Tensor | None], new: Tensor | None
) -> Tensor | None:
    """``new + sum_k row_k eps_k``."""
    for entry, old in zip(row, eps):
        if entry is not None and old is not None:
            factor = entry.unsqueeze(-1)
            new = factor * old if new is None else new.addcmul_(factor, old)
    return new


class _Factors:
    """ex of ES-D-RTRL for a weight matrix; ef belongs to the synaptic input."""

    def __init__(self, channel: int, rule: OnlineRule) -> None:
        self.ex: Tensor | None = None
        self.channel, self.rule = channel, rule

    def take(self, factor: Tensor | None, x: Tensor) -> Tensor | None:
        """Gradient of the block; ex moves to its end."""
        found = filtered(x, self.rule.alpha, self.ex)
        self.ex = found[-1]
        return None if factor is None else _summed(factor, found)

    def tensors(self) -> list[Tensor]:
        """What is kept."""
        return [] if self.ex is None else [self.ex]


class LayerTraces:
    """The traces of all parameters of a layer that learn.

    Args:
        layer: the layer.
        rule: the settings.
        kind: the kind of this layer.
        states: number of states, with the filter of a leaky readout if there is one.
    """

    def __init__(self, layer: OnlineLayer, rule: OnlineRule, kind: str, states: int) -> None:
        self.rule = rule
        self.weights: dict[str, nn.Parameter] = {}
        self.whole: dict[str, _Whole] = {}
        self.factors: dict[str, _Factors] = {}
        for name, projection in layer.links():
            if not projection.weight.requires_grad:
                continue
            self.weights[name] = projection.weight
            channel = projection.wiring.channel
            if kind == D_RTRL or (kind == HYBRID and _smaller(projection.weight, states)):
                self.whole[name] = _Whole(states, channel, rule)
            else:
                self.factors[name] = _Factors(channel, rule)
        self.ef: dict[int, Row] = {
            factors.channel: (None,) * states for factors in self.factors.values()
        }
        values = layer.parameters_by_name()
        self.own: list[nn.Parameter] = [values[name] for name in layer.learned]
        self.eps: list[Row] = [(None,) * states for _ in self.own]

    def take(self, passed: Passed) -> None:
        """Take a block in, and add its gradient to the parameters' ``grad``."""
        for name, trace in self.whole.items():
            _add(self.weights[name], trace.take(passed, passed.sources[name]))
        filtered = {channel: self._filter(passed, channel) for channel in self.ef}
        for name, factors in self.factors.items():
            factor = filtered[factors.channel]
            _add(self.weights[name], factors.take(factor, passed.sources[name]))
        for index, parameter in enumerate(self.own):
            _add(parameter, self._take_own(passed, index))

    def _filter(self, passed: Passed, channel: int) -> Tensor | None:
        """``sum_k l_t ef_t`` of all steps; ef moves to the end of the block."""
        alpha = self.rule.alpha
        each, self.ef[channel] = tail(passed.d, passed.f[channel], self.ef[channel], alpha)
        factor = dot(passed.signals, each)
        if factor is None or self.rule.debias == "none":
            return factor
        steps = range(passed.first, passed.first + len(factor))
        scale = factor.new_tensor([self.rule.debiasing(t) for t in steps])
        return factor / scale.view(-1, 1, 1)

    def _take_own(self, passed: Passed, index: int) -> Tensor | None:
        g = passed.g[index]
        gradient = None
        if passed.learns:
            each, before = passed.adjoint
            for part in (dot(each, g), dot(before, self.eps[index])):
                if part is not None:
                    found = part.flatten(0, -2).sum(0)
                    gradient = found if gradient is None else gradient + found
        each_product, whole = passed.products
        fresh = matrix_vector(each_product, g)
        carried = matrix_vector(whole, self.eps[index])
        self.eps[index] = tuple(
            b if a is None else a.sum(0) if b is None else a.sum(0) + b
            for a, b in zip(fresh, carried)
        )
        return gradient

    def tensors(self) -> list[Tensor]:
        """All that is kept of the past."""
        kept = [x for whole in self.whole.values() for x in whole.tensors()]
        kept += [x for factors in self.factors.values() for x in factors.tensors()]
        rows = (*self.ef.values(), *self.eps)
        return kept + [x for row in rows for x in row if x is not None]


def _add(parameter: nn.Parameter, gradient: Tensor | None) -> None:
    if gradient is not None:
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def _smaller(weight: Tensor, states: int) -> bool:
    """Whether a trace of each weight keeps fewer numbers than the two factors."""
    n_out, n_in = weight.shape
    return states * n_out * n_in <= n_in + states * n_out
