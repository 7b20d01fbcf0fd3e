"""What a network keeps in attributes of its own modules: whether a run changes it, and how to put it back.

Attributes and buffers of modules that are neither torch's nor neurons; in lists, dicts and plain objects
also what these hold.
"""

from __future__ import annotations

import argparse
import weakref
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, is_dataclass
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biril_nm.models.tracer import is_neuron, of_torch

__all__ = ["OwnState", "own_values", "put_attribute"]

OF_TORCH = ("training", "_parameters", "_modules", "_buffers", "_non_persistent_buffers_set")
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)
DEEP, LONG = 4, 256  # levels of containers, and items of one, up to which values are looked at
SMALL = 1 << 12  # bytes of an array, up to which its values are


class OwnState:
    """Attributes and buffers of a network's own modules, to put back later."""

    def __init__(self, net: nn.Module) -> None:
        self._known = weakref.ref(net)  # what is known of a network must not keep it
        files = _files(net)
        self._saved = {key: _copied(value, files) for key, _, value in _attributes(net)}
        self._versions = {key: _stamp(value) for key, _, value in _attributes(net)}

    @property
    def _net(self) -> nn.Module:
        net = self._known()
        if net is None:
            raise ReferenceError("the network is gone")
        return net

    def changed(self) -> list[str]:
        """Names of the attributes that differ from then."""
        now = {key: value for key, _, value in _attributes(self._net)}
        new = [key for key in now if key not in self._saved]
        return new + [
            key for key, copy in self._saved.items() if key not in now or not _same(copy, now[key])
        ]

    def touched(self) -> list[str]:
        """Those that differ, and tensors that were written to, if with equal values."""
        now = {key: value for key, _, value in _attributes(self._net)}
        known = self._versions.items()
        written = [key for key, version in known if key in now and _stamp(now[key]) != version]
        return list(dict.fromkeys([*self.changed(), *written]))

    def lasting(self) -> dict[str, Tensor]:
        """Numbers, and tensors of the same shape, that differ from then and are in no state of modules."""
        found: dict[str, Tensor] = {}
        now = {key: value for key, _, value in _attributes(self._net)}
        for name in set(self.changed()).difference(self._net.state_dict()):
            if self.is_of_the_shape(name):
                found[name] = torch.as_tensor(now[name]).detach().cpu().clone()
        return found

    def is_of_the_shape(self, name: str) -> bool:
        """Whether an attribute was a tensor or a number, and is one of the same shape and type."""
        copy = self._saved.get(name, _Copy(None, None))
        path, _, attribute = name.rpartition(".")
        now = getattr(self._net.get_submodule(path), attribute, None)
        if not isinstance(copy.held, Tensor) or not isinstance(now, Tensor):
            return isinstance(now, (int, float)) and type(now) is type(copy.value)
        return (copy.held.shape, copy.held.dtype) == (now.shape, now.dtype)

    def restore(self, only: list[str] | None = None) -> None:
        """Put back all attributes, or those of the given names."""
        modules = dict(self._net.named_modules())
        for key in self.changed() if only is None else only:
            path, _, attribute = key.rpartition(".")
            module, copy = modules[path], self._saved.get(key)
            if copy is None:
                module.__dict__.pop(attribute, None)
                continue
            now = getattr(module, attribute, None)
            place = now.device if isinstance(now, Tensor) else None
            setattr(module, attribute, _put_back(copy, place))


def put_attribute(net: nn.Module, name: str, value: Tensor) -> None:
    """Give an attribute that is a number or a tensor the value that :meth:`OwnState.lasting` found."""
    held = {key: (module, value) for key, module, value in _attributes(net)}
    module, now = held.get(name, (net, None))
    attribute = name.rpartition(".")[2]
    if isinstance(now, Tensor) and now.shape == value.shape:
        setattr(module, attribute, value.to(now, copy=True))
    elif isinstance(now, (int, float)) and value.numel() == 1:
        setattr(module, attribute, type(now)(value.item()))


@dataclass(frozen=True)
class _Copy:
    """An object, and what it held: a tensor's values, copies of the items of a container, or None."""

    value: Any
    held: Any


def _attributes(net: nn.Module) -> Iterator[tuple[str, nn.Module, Any]]:
    for path, module in net.named_modules():
        if of_torch(module) or is_neuron(module):
            continue
        own = {k: v for k, v in vars(module).items() if k not in OF_TORCH and "_hooks" not in k}
        for name, value in {**own, **module._buffers}.items():
            yield f"{path}.{name}".removeprefix("."), module, value


def _stamp(value: Any) -> int | None:
    """How often a tensor was written to."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else None


def _files(net: nn.Module) -> set[str]:
    """The files of the network's own classes."""
    files = {type(m).__module__ for m in net.modules() if not is_neuron(m)}
    return {name for name in files if name.partition(".")[0] not in ("torch", "builtins")}


def _is_record(value: Any, files: set[str]) -> bool:
    """Whether an object is one of the network's own, or a bundle of plain values."""
    if isinstance(value, (type, nn.Module, *FUNCTIONS)) or not hasattr(value, "__dict__"):
        return False
    known = isinstance(value, (SimpleNamespace, argparse.Namespace)) or is_dataclass(value)
    return known or type(value).__module__ in files


def _copied(value: Any, files: set[str], depth: int = DEEP) -> _Copy:
    def inner(item: Any) -> _Copy:
        return _copied(item, files, depth - 1) if len(items) <= LONG else _Copy(item, None)

    if isinstance(value, Tensor):
        return _Copy(value, value.detach().clone())
    if isinstance(value, set):
        return _Copy(value, set(value))
    items: Any = ()
    if depth and isinstance(value, (list, tuple, deque)):
        items = list(value)
        return _Copy(value, [inner(item) for item in items])
    if depth and (isinstance(value, dict) or _is_record(value, files)):
        items = value if isinstance(value, dict) else vars(value)
        return _Copy(value, {key: inner(item) for key, item in items.items()})
    return _Copy(value, None)


def _same(copy: _Copy, now: Any) -> bool:
    held = copy.held
    if now is not copy.value or held is None:
        return now is copy.value
    if isinstance(held, Tensor):
        return now.shape == held.shape and torch.equal(now.detach(), held.to(now.device))
    if isinstance(held, set):
        return bool(now == held)
    if isinstance(held, list):
        return len(now) == len(held) and all(map(_same, held, now))
    items = now if isinstance(now, dict) else vars(now)
    return list(items) == list(held) and all(_same(held[key], items[key]) for key in held)


def _put_back(copy: _Copy, place: torch.device | None = None) -> Any:
    """The object that it was, with what it held."""
    value, held = copy.value, copy.held
    if isinstance(held, Tensor):
        place = value.device if place is None else place
        untouched = value.device == place and _same(copy, value)
        return value if untouched else held.clone().to(place)
    if isinstance(held, set):
        value.clear()
        value.update(held)
    elif isinstance(held, list) and not isinstance(value, tuple):
        inside = [_put_back(item) for item in held]
        value.clear()
        value.extend(inside)
    elif isinstance(held, list):
        for item in held:
            _put_back(item)
    elif held is not None:
        kept = {key: _put_back(item) for key, item in held.items()}
        items = value if isinstance(value, dict) else vars(value)
        items.clear()
        items.update(kept)
    return value


def own_values(net: nn.Module) -> Hashable:
    """Plain values among the attributes of the network's own modules, to compare; not those of tensors."""
    files = _files(net)
    return tuple((name, _seen(value, files)) for name, _, value in _attributes(net))


def _seen(value: Any, files: set[str], depth: int = DEEP) -> Hashable:
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, FUNCTIONS):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return str(value.dtype), value.shape, value.tobytes() if value.nbytes <= SMALL else None
    items: Any = ()
    if depth and isinstance(value, (list, tuple, deque, set, frozenset)):
        items = enumerate(sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)
    elif depth and (isinstance(value, dict) or _is_record(value, files)):
        items = (value if isinstance(value, dict) else vars(value)).items()
    looked_at = islice(
        items, LONG >> 2 * (DEEP - depth)
    )  # fewer inside of others: this is often called
    inside = [(str(key), _seen(item, files, depth - 1)) for key, item in looked_at]
    return str(type(value)), tuple(inside)
