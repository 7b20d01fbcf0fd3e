"""Registry of export targets: a name such as ``lava`` leads to an object that builds and writes.

Built-in back ends are imported when they are asked for, so that listing or using one does not need
the packages of the others. Other packages add theirs through the entry point group
``biril_nm.backends`` (the entry point loads a :class:`Backend`) or with ``@backend("name")``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph

__all__ = ["Backend", "available_backends", "backend", "get_backend"]

ENTRY_POINT_GROUP = "biril_nm.backends"
_BUILT_IN = {"lava": "biril_nm.export.lava"}
_REGISTRY: dict[str, Backend] = {}


@runtime_checkable
class Backend(Protocol):
    """What an export target offers."""

    def build(self, graph: LoihiGraph, n_steps: int) -> Any:
        """The network as an object of the target's own kind, for samples of ``n_steps`` steps."""

    def write(self, graph: LoihiGraph, path: str | Path, force: bool = False) -> Path:
        """Write the network to ``path`` atomically; replace an existing one only with ``force``."""


Kind = TypeVar("Kind", bound=Callable[[], Backend])


def backend(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: register a :class:`Backend` under ``name``.

    Raises:
        ConfigError: another class has the name.
    """

    def register(kind: Kind) -> Kind:
        known = _REGISTRY.get(name)
        if known is not None and type(known).__qualname__ != getattr(kind, "__qualname__", None):
            raise ConfigError(
                f"back end '{name}' is registered already by {type(known).__name__}; "
                f"choose another name"
            )
        _REGISTRY[name] = kind()
        return kind

    return register


def available_backends() -> tuple[str, ...]:
    """Names that :func:`get_backend` knows, sorted; nothing is imported."""
    return tuple(sorted({*_BUILT_IN, *_REGISTRY, *_entry_points()}))


def get_backend(name: str) -> Backend:
    """Return the back end called ``name``.

    Raises:
        ConfigError: the name is unknown (the message lists the known ones), or the entry point of
            that name does not lead to a back end.
    """
    if name not in _REGISTRY:
        if name in _BUILT_IN:
            importlib.import_module(_BUILT_IN[name])
        elif name in _entry_points():
            _REGISTRY[name] = _load(_entry_points()[name])
        else:
            raise ConfigError(
                f"back end '{name}' is unknown; known back ends: {', '.join(available_backends())}"
            )
    return _REGISTRY[name]


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _load(point: EntryPoint) -> Backend:
    loaded = point.load()
    candidate = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(candidate, Backend):
        raise ConfigError(
            f"entry point '{point.name}' ({point.value}) in group '{ENTRY_POINT_GROUP}' gives "
            f"{type(candidate).__name__}; needed is an object with build() and write()"
        )
    return candidate
