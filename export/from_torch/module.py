"""The user's module: what is accepted, a copy at rest that may be run, and which parts are layers.

Only the copy is run. :func:`isolated` restores what a forward changes outside of its module: torch's
random numbers, and the list of all neurons that ``snntorch.utils.reset`` goes through.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import snntorch
import torch
from torch import nn

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.from_torch.registry import (
    kind_names,
    kind_of,
    neuron_kind,
    refusal_of,
    state_names,
)
from biril_nm.models.nir_net import NirNet
from biril_nm.models.values import check_values

__all__ = [
    "check_module",
    "isolated",
    "leaf_modules",
    "objection",
    "resting_copy",
    "tensors_in",
]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# _compiled_call_impl: what Module.compile() sets.
_WITHOUT_EFFECT = frozenset(
    {"extra_repr", "reset_parameters", "train", "eval", "_compiled_call_impl"}
)


def check_module(module: Any) -> None:
    """Refuse everything but a network in Python with weights.

    Raises:
        ConfigError: not a ``nn.Module``, or without values yet.
        UnsupportedNodeError: a ScriptModule, whose forward is not Python.
    """
    if not isinstance(module, nn.Module):
        found = module.__name__ if isinstance(module, type) else type(module).__name__
        raise ConfigError(
            f"the module is {'the class ' if isinstance(module, type) else 'of type '}{found}; expected a "
            f"torch.nn.Module with its weights loaded"
        )
    for path, inner in module.named_modules():
        if isinstance(inner, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
            where = f"layer '{path}'" if path else "the network"
            raise UnsupportedNodeError(
                f"{where} is a ScriptModule, which cannot be followed; expected a module in Python. Pass the "
                f"one that it was made from"
            )
    check_values(module, "the export")


def resting_copy(root: nn.Module) -> Any:
    """A copy on the CPU in eval mode with neurons at rest; states of a training graph are left out.

    Raises:
        ConfigError: the module holds something that cannot be copied.
    """
    memo = {
        id(tensor): tensor.detach().clone()
        for module in root.modules()
        for tensor in tensors_in(list(vars(module).values()))
        if not isinstance(tensor, nn.Parameter) and (not tensor.is_leaf or tensor.requires_grad)
    }
    try:
        copied = copy.deepcopy(root, memo)
        copied.cpu()
        copied.eval()  # returns nothing where a train() of the user's does not
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in copied.parameters()):
            # Exact, and everything runs in it.
            copied.float()
    except Exception as error:  # whatever the user's objects raise when they are copied
        raise ConfigError(
            f"{type(root).__name__} cannot be copied ({error}); expected a module of which a copy can be "
            f"run. Take out of the module what cannot be copied (open files, locks, data loaders)"
        ) from error
    for layer in copied.modules():
        for name in state_names(layer):
            setattr(layer, name, torch.zeros(0))
        if isinstance(layer, NirNet):
            layer.before = {}
    return copied


@contextmanager
def isolated(root: nn.Module) -> Iterator[None]:
    """Inside it, snnTorch's resets reach the neurons of ``root`` alone; random numbers are restored."""
    everywhere = snntorch.SpikingNeuron.instances
    snntorch.SpikingNeuron.instances = [
        layer for layer in root.modules() if isinstance(layer, snntorch.SpikingNeuron)
    ]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        snntorch.SpikingNeuron.instances = everywhere


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for v in value for t in tensors_in(v)] if isinstance(value, (tuple, list)) else []


def _own_methods(layer: nn.Module, kind: type) -> list[str]:
    """Methods of ``kind`` that a derived class, or the layer itself, has replaced."""
    derived = type(layer).__mro__[: type(layer).__mro__.index(kind)]
    names = {
        name
        for cls in derived
        for name, value in vars(cls).items()
        if hasattr(kind, name) and (callable(value) or isinstance(value, (property, classmethod)))
    }
    names |= {
        name for name, value in vars(layer).items() if hasattr(kind, name) and callable(value)
    }
    return sorted(n for n in names - _WITHOUT_EFFECT if not n.startswith("__"))


def objection(layer: nn.Module) -> str | None:
    """Why a layer has no NIR form, None where it has one."""
    kind = kind_of(layer)
    name = f"{type(layer).__module__}.{type(layer).__qualname__}"
    refusal = refusal_of(layer)
    if refusal is not None:
        return f"({name}) is unknown; {refusal.reason}. {refusal.way_out}"
    if kind is None:
        return (
            f"({name}) is unknown; expected one of {', '.join(kind_names())}. Compose it of these"
        )
    if getattr(layer, "return_indices", False):
        return f"({name}) returns the places of maxima as well; expected spikes. Use return_indices=False"
    own = _own_methods(layer, kind.type)
    if not own:
        return None
    return f"({name}) replaces {', '.join(own)} of {kind.name}; expected {kind.name} as it is"


def leaf_modules(root: nn.Module) -> dict[str, nn.Module]:
    """Path -> layer: known ones, and torch's and snnTorch's own that are not containers.

    A stateless layer with its own forward (a masked Linear) is followed as any user's module.
    """
    found: dict[str, nn.Module] = {}

    def is_leaf(module: nn.Module) -> bool:
        kind = kind_of(module)
        if kind is not None:
            return neuron_kind(module) is not None or not _own_methods(module, kind.type)
        foreign = type(module).__module__.startswith(("torch.nn.", "snntorch."))
        return foreign and type(module) not in _CONTAINERS

    def walk(module: nn.Module, path: str) -> None:
        if path and is_leaf(module):
            if not any(module is other for other in found.values()):
                found[path] = module
            return
        for name, child in module.named_children():
            walk(child, f"{path}.{name}" if path else name)

    walk(root, "")
    return found
