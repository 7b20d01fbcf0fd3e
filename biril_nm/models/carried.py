"""Which arguments of a forward of one step carry states from one step to the next: a trial of two steps.

Further arguments without a default are states. Further arguments whose default is None are states if some
neurons would start each step from rest without them. In the trial random numbers stand for the states that
neurons return, so that a state that is carried differs from one at rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from biril_nm.errors import ConfigError
from biril_nm.models.draws import Draws
from biril_nm.models.own_state import OwnState
from biril_nm.models.signals import own_copy
from biril_nm.models.tracing import is_neuron, reset_neurons

__all__ = ["Unmarked", "carried_states", "check_memory", "positional_arguments", "states_of"]


class Unmarked:
    """Runs of a module that leave no mark: eval mode; attributes, tensors and generators are put back."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._no_grad = module, torch.no_grad()

    def __enter__(self) -> None:
        self._modes = [(m, m.training) for m in self._module.modules()]
        self._state = OwnState(self._module)
        lasting = _lasting_tensors(self._module)
        self._tensors = [(*held, held[2].detach().clone()) for held in lasting]
        self._draws = Draws(self._module)
        self._no_grad.__enter__()
        self._module.eval()
        reset_neurons(self._module)

    def __exit__(self, *error: Any) -> None:
        for holder, name, value, kept in self._tensors:
            holder[name] = value
            if not torch.equal(value, kept):
                value.copy_(kept)
        self._no_grad.__exit__(*error)
        self._draws.restore()
        self._state.restore()
        for module, training in self._modes:
            module.training = training
        reset_neurons(self._module)


def _lasting_tensors(net: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Parameters and buffers, without the states of neurons: where they are held, their name and value."""
    for module in net.modules():
        states = module._non_persistent_buffers_set if is_neuron(module) else ()
        for holder in (module._buffers, module._parameters):
            for name, value in holder.items():
                if value is not None and name not in states and not is_lazy(value):
                    yield cast(dict[str, Any], holder), name, value


def positional_arguments(net: nn.Module) -> tuple[list[str], list[str]]:
    """Positional arguments of a forward: those without a default, and those behind them that are None."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [p for p in inspect.signature(net.forward).parameters.values() if p.kind in kinds]
    required = [p.name for p in taken if p.default is p.empty]
    optional = []
    for parameter in taken[len(required) :]:
        if parameter.default is not None:
            break
        optional.append(parameter.name)
    return required, optional


def carried_states(net: nn.Module, x: Tensor) -> int:
    """How many arguments behind the first carry states through a forward of one step.

    Args:
        net: its forward takes one step, ``(batch, ...)``.
        x: ``(n_steps, batch, ...)``.

    Raises:
        ConfigError: neurons start each step from rest, or it is not clear what is a state.
    """
    required, optional = positional_arguments(net)
    n_required = max(0, len(required) - 1)
    plain = _two_steps_of(net, x, n_required) if optional else None
    if plain is None:
        return n_required
    n_all = n_required + len(optional)
    if plain.n_returned == n_all:
        try:
            passed = _two_steps(net, x, n_required, n_all)
        except Exception:  # what the forward returns is not what it takes
            check_memory(net, x, plain)
            return n_required
        if plain.forgetful and not passed.forgetful:
            return n_all
        if not plain.forgetful and not plain.returns_states and not _alike(plain, passed):
            raise ConfigError(
                f"the forward of {type(net).__name__} takes {_names(optional)} with a default and returns as "
                f"many further results, which would change the next step; expected to know whether they are "
                f"states. Take a state without a default (it is None at the first step), and what is none by "
                f"keyword only (*, {optional[0]}=None)"
            )
    check_memory(net, x, plain)
    return n_required


def check_memory(net: nn.Module, x: Tensor, plain: _TwoSteps | None = None) -> None:
    """Refuse a forward of one step whose neurons start each step from rest.

    Args:
        net: its forward takes one step.
        x: ``(n_steps, batch, ...)``.
        plain: two steps of it, where they are known.

    Raises:
        ConfigError: some neurons are given the same states at the second step as at the first.
    """
    if plain is None:
        plain = _two_steps_of(net, x, max(0, len(positional_arguments(net)[0]) - 1))
    if plain is not None and plain.forgetful:
        raise ConfigError(
            f"{_names(plain.forgetful)} of {type(net).__name__} would start each step from rest; expected "
            f"their last states. If forward makes the states (init_leaky, zeros), put the loop over time "
            f"into the same forward; else take the last states as arguments and return as many in the same "
            f"order, behind the spikes"
        )


def _two_steps_of(net: nn.Module, x: Tensor, number: int) -> _TwoSteps | None:
    """Two steps in which ``number`` arguments carry states; None if there is one step, or they fail."""
    try:
        return _two_steps(net, x, number, number) if len(x) > 1 else None
    except ConfigError:
        raise
    except Exception:  # of the forward: the run itself shows it
        return None


def states_of(net: nn.Module, result: Any, number: int) -> tuple[Any, ...]:
    """The first ``number`` results behind the first that a step returned.

    Raises:
        ConfigError: there are fewer.
    """
    further = tuple(result[1:]) if isinstance(result, (tuple, list)) else ()
    if len(further) < number:
        raise ConfigError(
            f"the forward of {type(net).__name__} takes {number} further arguments and returns "
            f"{len(further)} further results; expected as many. Return the last states behind the spikes, in "
            f"the order of the arguments, or give what is no state a default"
        )
    return further[:number]


@dataclass
class _TwoSteps:
    """What two steps showed; of each step the states that neurons were given, call by call."""

    given: list[list[tuple[str, tuple[Any, ...]]]] = field(default_factory=list)
    noise: set[int] = field(default_factory=set)
    results: list[Any] = field(default_factory=list)

    @property
    def n_returned(self) -> int:
        """How many results stand behind the first."""
        first = self.results[0]
        return len(first) - 1 if isinstance(first, (tuple, list)) else 0

    @property
    def forgetful(self) -> list[str]:
        """Neurons that are given the same states at the second step as at rest."""
        pairs = zip(*self.given)
        same = [a[0] for a, b in pairs if a[0] == b[0] and a[1] and _equal(a[1], b[1])]
        return list(dict.fromkeys(same))

    @property
    def returns_states(self) -> bool:
        """Whether all that the forward returns behind the first are states of neurons."""
        return all(id(tensor) in self.noise for tensor in _tensors(self.results[0][1:]))


def _two_steps(net: nn.Module, x: Tensor, n_first: int, number: int) -> _TwoSteps:
    """Run two steps from rest, the second with ``number`` results of the first."""
    found = _TwoSteps()
    random = torch.Generator().manual_seed(0)
    kept: list[Tensor] = []  # as long as their ids are in use

    def look(name: str) -> Any:
        def hook(_: Any, arguments: Any, named: dict[str, Any]) -> None:
            states = (*arguments[1:], *(v for k, v in named.items() if k != "input_"))
            found.given[-1].append((name, tuple(s for s in states if s is not None)))

        return hook

    def replace(_: Any, __: Any, result: Any) -> Any:
        if not isinstance(result, tuple):
            return None
        for state in result[1:]:
            noise = torch.rand(state.shape, generator=random)
            kept.append(noise.to(state.device, state.dtype))
        found.noise.update(map(id, kept))
        return (result[0], *kept[len(kept) - len(result) + 1 :])

    neurons = {name: layer for name, layer in net.named_modules() if is_neuron(layer)}
    handles = [n.register_forward_hook(replace) for n in neurons.values()]
    handles += [n.register_forward_pre_hook(look(k), with_kwargs=True) for k, n in neurons.items()]
    try:
        with Unmarked(net):
            states: Sequence[Any] = (None,) * n_first
            for step in own_copy(x[:2]):
                found.given.append([])
                found.results.append(net(step, *states))
                if len(found.results) == 1:
                    states = states_of(net, found.results[0], number)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _alike(first: _TwoSteps, second: _TwoSteps) -> bool:
    return _equal(_tensors(first.results[1]), _tensors(second.results[1]))


def _equal(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: Any, second: Any) -> bool:
    """Equality of states; those without a shape yet, of init_leaky, are zeros."""
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return first is second
    if not first.numel() or not second.numel():
        return not first.any() and not second.any()
    return torch.equal(first, second)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (tuple, list)) else []


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
