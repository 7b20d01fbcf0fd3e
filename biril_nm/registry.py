"""A registry: a name leads to an object that is built in, registered, or brought by another package.

Nothing is imported until it is asked for, so that listing the names, or using one of them, does not
need the packages of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from biril_nm.arguments import unknown_name
from biril_nm.errors import BirilError, ConfigError

__all__ = ["Registry"]

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Objects of one kind by name.

    Attributes:
        kind: what the objects are, for messages.
        group: entry point group by which other packages bring theirs.
        built_in: name -> ``module:object``, as an entry point writes it.
        accept: (name, loaded object) -> the object as it is kept, or None if it is of another kind.
        expected: what an entry point must give, for messages.
        registered: objects that :meth:`add` has taken, or that were loaded.
        origins: name -> name of the class or function behind an added object.
    """

    kind: str
    group: str
    built_in: Mapping[str, str]
    accept: Callable[[str, object], T | None]
    expected: str
    registered: dict[str, T] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """All names: the built-in ones in their order, then the others, sorted."""
        others = {*self.registered, *self._entry_points()} - set(self.built_in)
        return (*self.built_in, *sorted(others))

    def add(self, name: str, value: T, origin: str) -> None:
        """Register ``value``; the same origin may register again, as when a module is reloaded.

        Raises:
            ConfigError: another object has the name.
        """
        owner = "biril_nm" if name in self.built_in else self.origins.get(name, origin)
        if owner != origin:
            raise ConfigError(
                f"{self.kind} '{name}' is registered already by {owner}. Choose another name"
            )
        self.registered[name] = value
        self.origins[name] = origin

    def get(self, name: str) -> T:
        """The object called ``name``.

        Raises:
            ConfigError: the name is unknown, or its entry point cannot be loaded or is of another
                kind.
        """
        if name not in self.registered:
            if name in self.built_in:
                point = EntryPoint(name, self.built_in[name], self.group)
            elif name in (points := self._entry_points()):
                point = points[name]
            else:
                raise ConfigError(unknown_name(self.kind, name, self.names()))
            self.registered[name] = self._load(point)
        return self.registered[name]

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _load(self, point: EntryPoint) -> T:
        where = f"entry point '{point.name}' ({point.value}) in group '{self.group}'"
        try:
            loaded = point.load()
        except BirilError:
            raise
        except Exception as error:  # another package's code may raise anything when it is imported
            raise ConfigError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}). Repair or uninstall "
                f"the package that brings it"
            ) from error
        value = self.accept(point.name, loaded)
        if value is None:
            raise ConfigError(f"{where} is {type(loaded).__name__}; expected {self.expected}")
        return value
