"""Gradient checkpointing over time: of a run of all steps, only the states between segments are kept.

The steps are cut into segments. The forward pass keeps the membranes with which each segment starts and
nothing inside it; the backward pass runs a segment again when it needs it. Memory grows with the number of
segments and the length of one, instead of with the number of steps, for one more forward pass.

Equal to the run without segments, except two kinds of layers in train mode: BatchNorm has the statistics of
a segment, and Dropout draws its masks segment by segment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biril_nm.errors import ConfigError
from biril_nm.models.folded import NORMS, FoldedPlan, StepsRun
from biril_nm.models.tracing import is_neuron, reset_neurons
from biril_nm.neurons.unroll import LEAKY, can_unroll, current_engine, engine

__all__ = ["run_in_segments", "segment_steps", "segments"]

STATES = ("mem", "spk", "syn", "syn_exc", "syn_inh")  # snnTorch's names

_steps: ContextVar[int] = ContextVar("segments", default=0)
Key = tuple[str, str]  # name of neurons, name of their state


@contextmanager
def segments(n_steps: int) -> Iterator[None]:
    """Cut runs that are trained into segments of ``n_steps`` steps; 0: no segments."""
    token = _steps.set(n_steps)
    try:
        yield
    finally:
        _steps.reset(token)


def segment_steps(n_steps: int) -> int:
    """Steps of a segment for a run of ``n_steps``; 0: the run is not cut."""
    chosen = _steps.get()
    return chosen if 0 < chosen < n_steps and torch.is_grad_enabled() else 0


def run_in_segments(
    plan: FoldedPlan, net: nn.Module, x: Tensor, record: Collection[str], length: int
) -> StepsRun:
    """Run all steps from rest in segments of ``length`` steps.

    Args:
        plan: how to run one segment.
        net: the network; its neurons are at rest.
        x: ``(n_steps, batch, ...)``.
        record: names of neurons whose spikes to return.
        length: steps of a segment.

    Raises:
        ConfigError: neurons of a class whose states are not known.
    """
    _refuse_unknown(net)
    outputs: list[Tensor] = []
    recorded: dict[str, list[Tensor]] = {}
    states: dict[Key, Tensor] = {}
    chosen, found = current_engine(), StepsRun(x)
    for piece in torch.split(x, length):
        keys = list(states)
        after: list[Key] = []

        def run(piece: Tensor, *given: Tensor, keys: Any = keys, after: Any = after) -> Any:
            nonlocal found
            with engine(chosen):  # the backward pass may come from another thread
                found = _segment(plan, net, piece, record, dict(zip(keys, given)))
            ends = _states(net, found)
            after[:] = ends
            return (found.output, *ends.values())

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), _without_statistics(net)

        result = checkpoint(run, piece, *states.values(), use_reentrant=False, context_fn=contexts)
        outputs.append(result[0])
        states = dict(zip(after, result[1:]))
        for name, spikes in found.recorded.items():
            recorded.setdefault(name, []).append(spikes)
    membranes = {name: state for (name, kind), state in states.items() if kind == "mem"}
    series = {name: torch.cat(spikes) for name, spikes in recorded.items()}
    return StepsRun(torch.cat(outputs), membranes, series, found.readout)


def _refuse_unknown(net: nn.Module) -> None:
    for name, neuron in net.named_modules():
        known = type(neuron) in LEAKY or type(neuron).__module__.startswith("snntorch.")
        if is_neuron(neuron) and not known:
            raise ConfigError(
                f"checkpoint_steps is above 0, and '{name}' is a {type(neuron).__name__}, whose states are "
                f"not known; expected neurons of snnTorch. Set checkpoint_steps=0"
            )


def _segment(
    plan: FoldedPlan, net: nn.Module, x: Tensor, record: Collection[str], states: dict[Key, Tensor]
) -> StepsRun:
    reset_neurons(net)
    neurons = dict(net.named_modules())
    starts = {}
    for (name, kind), state in states.items():
        if can_unroll(neurons[name]):
            starts[name] = state
        else:
            setattr(neurons[name], kind, state)
    return plan.run(net, x, record, starts, keep_spikes=False)


def _states(net: nn.Module, run: StepsRun) -> dict[Key, Tensor]:
    """What the neurons hold after a segment."""
    found: dict[Key, Tensor] = {}
    for name, neuron in net.named_modules():
        if name not in run.membranes:
            continue
        if can_unroll(neuron):
            found[name, "mem"] = run.membranes[name]
            continue
        for kind in STATES:
            state = getattr(neuron, kind, None)
            if isinstance(state, Tensor) and state.numel():
                found[name, kind] = state
    return found


@contextmanager
def _without_statistics(net: nn.Module) -> Iterator[None]:
    """The second forward pass must not count in the running statistics once more."""
    with ExitStack() as stack:
        for norm in net.modules():
            if isinstance(norm, NORMS) and norm.training and norm.num_batches_tracked is not None:
                stack.callback(norm.num_batches_tracked.copy_, norm.num_batches_tracked.clone())
                stack.callback(setattr, norm, "momentum", norm.momentum)
                norm.momentum = 0.0  # they keep their value
        yield
