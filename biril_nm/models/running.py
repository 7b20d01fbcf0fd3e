"""Run any network of snnTorch neurons over all steps: folded where its step can be traced, else in a loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from biril_nm.errors import ConfigError
from biril_nm.models.carried import (
    Unmarked,
    carried_states,
    positional_arguments,
    states_of,
)
from biril_nm.models.folded import FoldedPlan, StepsRun
from biril_nm.models.loops import OwnLoop, spikes_of
from biril_nm.models.own_state import OwnState, own_values
from biril_nm.models.probing import plan
from biril_nm.models.returned import first_of, returned_neurons
from biril_nm.models.segments import run_in_segments, segment_steps
from biril_nm.models.signals import is_constant, own_copy
from biril_nm.models.taps import CLOSED, WEIGHTED, Taps, current_taps, forget, without_history
from biril_nm.models.tracing import (
    StepGraph,
    UntraceableError,
    is_neuron,
    readout_name,
    reset_neurons,
    trace_step,
)
from biril_nm.neurons.norms import HOOKS
from biril_nm.neurons.unroll import current_engine

__all__ = [
    "lasting_attributes",
    "precision",
    "run_all_steps",
    "run_in_loop",
    "run_steps",
    "step_graph",
]

log = logging.getLogger(__name__)
KEPT = 32  # states of a network's attributes of which graphs and plans are kept


@dataclass
class _Known:
    """What is known of a network in one state of its attributes."""

    graphs: dict[Hashable, StepGraph | str] = field(default_factory=dict)
    plans: dict[Hashable, FoldedPlan | str] = field(default_factory=dict)
    carried: dict[Hashable, int] = field(default_factory=dict)
    readouts: dict[Hashable, str | None] = field(default_factory=dict)
    rest: OwnState | None = None
    moving: dict[bool, list[str]] = field(default_factory=dict)  # states, in train mode and not


_precision: ContextVar[str] = ContextVar("precision", default="float32")
_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Choose ``"float32"`` or ``"bfloat16"``, in which layers compute by autocast; states stay in float32."""
    token = _precision.set(name)
    try:
        yield
    finally:
        _precision.reset(token)


def _autocast(x: Tensor) -> torch.autocast:
    low = _precision.get() == "bfloat16"
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low)


def step_graph(net: nn.Module) -> StepGraph:
    """The graph of one step of ``net`` as it is now; traced once.

    Raises:
        UntraceableError: it has none.
    """
    known = _known.setdefault(net, _Known())
    key = _fingerprint(net)
    if key not in known.graphs:
        try:
            _keep(known.graphs, key, trace_step(net))
        except UntraceableError as error:
            _keep(known.graphs, key, str(error))
    found = known.graphs[key]
    if isinstance(found, str):
        raise UntraceableError(found)
    return found


def run_steps(net: nn.Module, x: Tensor, record: Collection[str] = ()) -> StepsRun:
    """Run a network of one step over all steps from rest, the fastest way that gives the same.

    Args:
        net: its forward takes one step, ``(batch, ...)``.
        x: ``(n_steps, batch, ...)``.
        record: names of neurons whose spikes to return.
    """
    stepwise = current_engine() == "loop"
    if stepwise and segment_steps(len(x)):
        raise ConfigError(
            "checkpoint_steps is above 0, and engine 'loop' calls networks step by step; expected another "
            "engine. Use engine='auto', or set checkpoint_steps=0"
        )
    found = None if stepwise or _carries(net, x) else _plan(net, x)
    if found is None and segment_steps(len(x)):
        _refuse_segments(net, "runs step by step")
    if found is None:
        return run_in_loop(net, x, record)
    reset_neurons(net)
    length = segment_steps(len(x))
    if length and current_taps() is not CLOSED:
        _refuse_segments(net, "learns without gradients from layer to layer")
    with _autocast(x):
        if length:
            return run_in_segments(found, net, x, record, length)
        return found.run(net, x, record)


def _plan(net: nn.Module, x: Tensor) -> FoldedPlan | None:
    known = _known.setdefault(net, _Known())
    key = (_fingerprint(net), x.shape[2:], x.shape[0] == 1, is_constant(x), x.device, x.dtype)
    if key not in known.plans:
        try:
            _keep(known.plans, key, plan(step_graph(net), net, x))
        except UntraceableError as error:
            log.info("%s runs step by step: %s", type(net).__name__, error)
            _keep(known.plans, key, str(error))
    found = known.plans[key]
    return None if isinstance(found, str) else found


def _carries(net: nn.Module, x: Tensor) -> bool:
    """Whether arguments with a default are states, of which a graph of one step knows nothing."""
    return bool(positional_arguments(net)[1]) and _carried(net, x) > 0


def _carried(net: nn.Module, x: Tensor) -> int:
    """:func:`carried_states`, found out once."""
    known = _known.setdefault(net, _Known()).carried
    key = (_fingerprint(net), len(x) > 1)
    if key not in known:
        _keep(known, key, carried_states(net, x))
    return known[key]


def _keep(known: dict[Hashable, Any], key: Hashable, found: Any) -> None:
    """Note what was found; the oldest is forgotten where attributes change from run to run."""
    if len(known) >= KEPT:
        del known[next(iter(known))]
    known[key] = found


def _refuse_segments(net: nn.Module, forward: str) -> None:
    raise ConfigError(
        f"checkpoint_steps is above 0, and {type(net).__name__} {forward}; expected a forward of one step "
        f"that can be traced, and phases of BIRIL. Set checkpoint_steps=0"
    )


def _fingerprint(net: nn.Module) -> Hashable:
    """What a trace depends on: the modules, and the plain values in attributes of those traced into."""
    found: list[Hashable] = [own_values(net)]
    for name, module in net.named_modules(remove_duplicate=False):
        hooks = [len(getattr(module, kind)) for kind in HOOKS]
        found += [name, hash(type(module)), module.training, *hooks]
    return tuple(found)


def run_in_loop(net: nn.Module, x: Tensor, record: Collection[str] = ()) -> StepsRun:
    """Run a network of one step in a loop from rest.

    Attributes that a step changes are put back before the run, except statistics: numbers, and tensors that
    keep their shape, which change in train mode alone. States that the forward takes as further arguments
    (:mod:`biril_nm.models.carried`) are None at first, then what it returned.

    Raises:
        ConfigError: neurons start each step from rest, or it is not clear what is a state.
    """
    n_states = _carried(net, x)
    known = _known.setdefault(net, _Known())
    _to_rest(net, known)
    training = any(module.training for module in net.modules())
    try:
        readout = readout_name(step_graph(net), net)
    except UntraceableError:
        readout = _readout(net, training, lambda: _steps(net, own_copy(x[:2, :2]), n_states))
    before = None if training in known.moving else OwnState(net)
    found = _observed(net, lambda: _steps(net, x, n_states), record, x)
    if before is not None:
        known.moving[training] = _moving(net, x, n_states, before, training)
    found.readout = readout
    return found


def _readout(net: nn.Module, key: Hashable, forward: Callable[[], Tensor]) -> str | None:
    """:func:`returned_neurons`, found out once."""
    known = _known.setdefault(net, _Known()).readouts
    if key not in known:
        with _own_values(net):
            known[key] = returned_neurons(net, forward)
    return known[key]


@contextmanager
def _own_values(net: nn.Module) -> Iterator[None]:
    """Say what is wrong where a forward computes with values of the trace, which it has kept."""
    try:
        yield
    except UntraceableError as error:
        raise ConfigError(
            f"the forward of {type(net).__name__} keeps values of a step where they cannot be put back, such "
            f"as in a variable of its file; expected attributes of the network. Keep them in attributes"
        ) from error


def _steps(net: nn.Module, x: Tensor, n_states: int) -> Tensor:
    """The first results of all steps."""
    outputs: list[Tensor] = []
    found: Any = None
    for step in x:
        states = states_of(net, found, n_states) if outputs else (None,) * n_states
        found = net(step, *states)
        outputs.append(spikes_of(net, found))
    return torch.stack(outputs)


def _moving(
    net: nn.Module, x: Tensor, n_states: int, before: OwnState, training: bool
) -> list[str]:
    """Names of the attributes that are states, of those that a run has changed."""
    changed = before.changed()
    learned = [name for name in changed if training and before.is_of_the_shape(name)]
    if not learned:
        return changed
    with Unmarked(net):
        rest = OwnState(net)
        _steps(net, own_copy(x[:2]), n_states)
        in_eval = rest.touched()
    return [name for name in changed if name not in learned or name in in_eval]


def lasting_attributes(net: nn.Module) -> dict[str, Tensor]:
    """Numbers and tensors in attributes of ``net`` that have changed since its first run, and go on."""
    known = _known.setdefault(net, _Known())
    states = {name for names in known.moving.values() for name in names}
    found = {} if known.rest is None else known.rest.lasting()
    return {name: value for name, value in sorted(found.items()) if name not in states}


def run_all_steps(net: nn.Module, x: Tensor, record: Collection[str], loop: OwnLoop) -> StepsRun:
    """Run a network whose forward loops over the steps itself, from rest.

    Args:
        net: the network.
        x: ``(n_steps, batch, ...)``.
        record: names of neurons whose spikes to return.
        loop: how its forward is called.
    """
    if segment_steps(len(x)):
        _refuse_segments(net, "loops over the steps itself")
    _to_rest(net, _known.setdefault(net, _Known()))
    part, training = own_copy(x[:, :2]), any(module.training for module in net.modules())
    readout = _readout(net, (loop.name, training), lambda: loop.run(net, part))
    found = _observed(net, lambda: loop.run(net, x), record, x)
    found.readout = readout
    return found


def _to_rest(net: nn.Module, known: _Known) -> None:
    reset_neurons(net)
    if known.rest is None:
        known.rest = OwnState(net)
    else:
        known.rest.restore(list({name for names in known.moving.values() for name in names}))


def _observed(net: nn.Module, forward: Any, record: Collection[str], x: Tensor) -> StepsRun:
    """Call ``forward`` and note what the neurons give."""
    n_steps, autocast = x.shape[0], _autocast(x)
    spikes: dict[str, list[Tensor]] = {name: [] for name in record}
    membranes: dict[str, Tensor] = {}
    handles = []

    def note(name: str) -> Any:
        def hook(neuron: Any, _: Any, result: Any) -> None:
            membranes[name] = result[-1] if isinstance(result, tuple) else neuron.mem
            if name in spikes:  # a copy, as the forward may change them in place
                spikes[name].append(first_of(result).detach().clone())

        return hook

    inside: set[nn.Module] = set()  # of neurons
    for name, module in net.named_modules():
        if is_neuron(module):
            handles.append(module.register_forward_hook(note(name)))
            handles += _open_taps(current_taps(), name, module)
            inside.update(module.modules())
        elif isinstance(module, WEIGHTED) and module not in inside:
            handles += _open_weight_taps(current_taps(), module)
    try:
        with autocast, _own_values(net):
            output = forward()
    finally:
        for handle in handles:
            handle.remove()
    series = {name: _by_step(s, n_steps) for name, s in spikes.items()}
    return StepsRun(output, membranes, {k: s for k, s in series.items() if s is not None})


def _by_step(calls: list[Tensor], n_steps: int) -> Tensor | None:
    """Spikes of all steps: the mean of the calls of a step, or those of one call for all; None: neither."""
    if not calls or len({spikes.shape for spikes in calls}) > 1:
        return None
    if len(calls) == 1:
        return calls[0].expand(n_steps, *calls[0].shape)
    if len(calls) % n_steps:
        return None
    found = torch.stack(calls)
    per_step = found.view(n_steps, -1, *found.shape[1:])
    return found if len(calls) == n_steps else per_step.mean(1)


def _open_taps(taps: Taps, name: str, neuron: nn.Module) -> list[RemovableHandle]:
    """Hooks on a population that is called step by step."""

    def cut_states(_: Any, arguments: Any) -> Any:
        forget(neuron)
        return (arguments[0], *without_history(arguments[1:]))

    replaced: Any = taps.spikes

    def replace_spikes(_: Any, arguments: Any, result: Any) -> Any:
        spikes = replaced(name, first_of(result)[None])[0]
        return (spikes, *result[1:]) if isinstance(result, (tuple, list)) else spikes

    handles = [neuron.register_forward_pre_hook(cut_states)] if taps.one_step else []
    if replaced is not None:
        handles.append(neuron.register_forward_hook(replace_spikes))
    return handles


def _open_weight_taps(taps: Taps, layer: nn.Module) -> list[RemovableHandle]:
    """Hooks on a weight layer: its input without a path for gradients, and another path around it."""
    if taps.weighted is None:
        return []
    connect, given = taps.weighted, []

    def detach(_: Any, arguments: Any) -> Any:
        if not arguments:  # all by name, which the folded run leaves alone as well
            return None
        given.append(arguments[0])
        return (arguments[0].detach(), *arguments[1:])

    def join(_: Any, arguments: Any, result: Any) -> Any:
        return connect(layer, given.pop(), result) if arguments else None

    return [layer.register_forward_pre_hook(detach), layer.register_forward_hook(join)]
