"""Which operations of a step can see all steps at once: a trial with random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from biril_nm.models.draws import Draws
from biril_nm.models.effects import OTHER_SHAPES, effects, random_spikes
from biril_nm.models.folded import NORMS, RANDOM, FoldedPlan, Run
from biril_nm.models.signals import EACH, FOLDED, PLAIN, Signal, Size, is_constant, tensors
from biril_nm.models.tracing import StepGraph, UntraceableError

__all__ = ["plan"]

SAMPLES, STEPS = 3, 2  # of the run that looks for operations that mix samples
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # sums over other sizes may round differently
RANDOM_FUNCTIONS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
)


def plan(graph: StepGraph, net: nn.Module, x: Tensor) -> FoldedPlan:
    """The plan for inputs such as ``x``, after a run on random numbers that leaves no mark.

    Raises:
        UntraceableError: the network cannot be run on these.
    """
    sample = x[:1, :1].expand(min(STEPS, x.shape[0]), SAMPLES, *x.shape[2:])
    generator, draws = torch.Generator().manual_seed(0), Draws(net)
    try:
        with torch.inference_mode(False), torch.no_grad(), _in_eval_mode(net, NORMS):
            if x.is_floating_point():
                steps = 1 if is_constant(x) else STEPS
                noise = torch.rand((steps, *sample.shape[1:]), generator=generator)
                sample = noise.to(x.device, x.dtype).expand(sample.shape)
            found = FoldedPlan(graph, frozenset(), effects(graph, net, sample[0]))
            if x.shape[0] == 1:
                return found
            with _in_eval_mode(net, RANDOM):
                probe = _Probe(found, net, sample)
                probe.result()
    except UntraceableError:
        raise
    except Exception as error:  # of the forward: the plain loop shows it to the user
        raise UntraceableError(f"the forward fails on {tuple(sample.shape[1:])}") from error
    finally:
        draws.restore()
    return replace(found, stepwise=frozenset(probe.mixing), plain=frozenset(probe.plain))


@contextmanager
def _in_eval_mode(net: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Layers of ``kinds`` in eval mode: they learn nothing from what they see, or are not random."""
    training = [m for m in net.modules() if isinstance(m, kinds) and m.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Probe(Run):
    """A run on random numbers that compares each folded operation with the same step by step."""

    def __init__(self, plan: FoldedPlan, net: nn.Module, x: Tensor) -> None:
        super().__init__(plan, net, x)
        self.mixing: set[str] = set()
        self.plain: set[str] = set()
        self.generator = torch.Generator().manual_seed(1)

    def neurons(self, node: fx.Node, neuron: nn.Module) -> Signal:
        if type(neuron) in OTHER_SHAPES:
            return super().neurons(node, neuron)
        current = self.values[cast(fx.Node, node.args[0])].steps(self.size)
        return Signal(FOLDED, random_spikes(neuron, current.flatten(0, 1), self.generator))

    def operation(self, node: fx.Node, function: Callable[..., Any]) -> Signal:
        kept = {n: self.values[n] for n in node.all_input_nodes}
        if isinstance(function, RANDOM) or function in RANDOM_FUNCTIONS:
            return super().operation(node, function)
        if node.name in self.plan.effects.random:  # from another number at each call
            self.mixing.add(node.name)
            return self.stepped(node, function)
        first = self.attempt(node, function, kept)
        self.values |= {n: _cloned(signal) for n, signal in kept.items()}
        stepped = self.stepped(node, function)
        self.values |= kept
        if first is None or not _agree(first, stepped, self.size):
            self.mixing.add(node.name)
            return stepped
        if first.form == PLAIN:
            self.plain.add(node.name)
        return first

    def attempt(
        self, node: fx.Node, function: Callable[..., Any], kept: Mapping[fx.Node, Signal]
    ) -> Signal | None:
        """All steps at once, without effect on the arguments; None if that is not possible."""
        if any(signal.form == EACH for signal in kept.values()):
            return None
        self.values |= {n: _cloned(signal) for n, signal in kept.items()}
        try:
            return self.at_once(node, function)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None


def _cloned(signal: Signal) -> Signal:
    """A copy that an operation in place may change."""
    if isinstance(signal.value, Tensor):
        return Signal(signal.form, signal.value.clone())
    return signal


def _agree(found: Signal, expected: Signal, size: Size) -> bool:
    for t in range(size.n_steps):
        ours, theirs = tensors(found.at(t, size)), tensors(expected.at(t, size))
        if len(ours) != len(theirs):
            return False
        for a, b in zip(ours, theirs):
            if a.shape != b.shape or not torch.allclose(
                a.double(), b.double(), equal_nan=True, **CLOSE
            ):
                return False
    return True
