"""``@checked``: the arguments of a function or class, held against its annotations on every call.

Whole numbers of NumPy become Python's, texts become a Path where the annotation says so, and lists an
array where it says NDArray; nothing else changes. What an annotation cannot say, such as a range, the
function checks itself.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from biril_nm.arguments.kinds import MISFIT, Kind, kind_of
from biril_nm.arguments.texts import did_you_mean, shown
from biril_nm.errors import ConfigError, bullet_list

__all__ = ["checked"]

F = TypeVar("F", bound=Callable[..., Any])
P = inspect.Parameter
_Kinds = list[tuple[Any, Kind]]
KNOWN: dict[Any, dict[str, tuple[Kind, Any]]] = {}  # function -> what its annotations say
# Modules that files import for type checkers only, by the names that annotations use.
MODULES = {"nir": "nir", "nn": "torch.nn", "scipy": "scipy", "snn": "snntorch", "torch": "torch"}


def checked(target: F) -> F:
    """Let every call of a function, or of the constructor of a class, check its arguments.

    Calls then raise a ConfigError for an argument that is missing, unknown or of the wrong kind.
    """
    if not isinstance(target, type):
        wrapped: F = _wrapped(target, target.__name__)
        return wrapped
    target.__init__ = _wrapped(target.__init__, target.__name__)  # type: ignore[misc]
    return target


def _wrapped(function: Any, name: str) -> Any:
    plan = _Plan(function, name)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        known = plan.known.get((len(args), *kwargs))
        if known is None or not _fits(known, args, kwargs):
            args, kwargs = plan.checked(args, kwargs)
        return function(*args, **kwargs)

    return call


def _fits(known: tuple[_Kinds, _Kinds], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether all arguments are taken as they are."""
    places, keywords = known
    for place, kind in places:
        value = args[place]
        if type(value) not in kind.exact and kind.take(value) is not value:
            return False
    for key, kind in keywords:
        value = kwargs[key]
        if type(value) not in kind.exact and kind.take(value) is not value:
            return False
    return True


class _Plan:
    """How the arguments of a function are checked.

    Attributes:
        known: places and keywords that have a kind, of calls that fitted, by the number of their places and
            the names of their keywords.
    """

    def __init__(self, function: Any, name: str) -> None:
        self._function, self._name = function, name
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        named = (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)
        self._places = tuple(p.name for p in parameters if p.kind in named)
        keywords = (P.POSITIONAL_OR_KEYWORD, P.KEYWORD_ONLY)
        self._keywords = {p.name for p in parameters if p.kind in keywords}
        self._needed = {
            p.name for p in parameters if p.name in self._keywords and p.default is P.empty
        }
        self.known: dict[tuple[Any, ...], tuple[_Kinds, _Kinds]] = {}

    def checked(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function takes them.

        Raises:
            ConfigError: an argument that is missing, unknown or of the wrong kind.
        """
        try:
            bound = self._bound(args, kwargs)
        except TypeError as error:
            raise ConfigError(_unbound(self._name, self._function, kwargs, error)) from None
        findings, changed = [], {}
        for key, (kind, default) in _kinds(self._function).items():
            value = bound.get(key, default)
            if value is not default and type(value) not in kind.exact:
                taken = kind.take(value)
                if taken is MISFIT:
                    findings.append(_finding(key, value, kind))
                elif taken is not value:
                    changed[key] = taken
        if findings:
            raise ConfigError(
                f"{self._name}: {findings[0]}"
                if len(findings) == 1
                else bullet_list(f"{self._name}:", findings)
            )
        if not changed:
            return args, kwargs
        places = [changed.get(key, value) for key, value in zip(self._places, args)]
        keywords = {key: changed.get(key, value) for key, value in kwargs.items()}
        return (*places, *args[len(places) :]), keywords

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name; ``inspect`` is asked only where they do not fit."""
        bound = dict(zip(self._places, args))
        fits = len(args) <= len(self._places) and bound.keys().isdisjoint(kwargs)
        bound.update(kwargs)
        if fits and self._needed <= bound.keys() <= self._keywords:
            self._learn(args, kwargs)
        else:  # other names than these are taken, or are an error, which inspect words
            self._signature.bind(*args, **kwargs)
        return bound

    def _learn(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kinds = _kinds(self._function)
        if self._function in KNOWN:
            places = [
                (i, kinds[n][0]) for i, n in enumerate(self._places[: len(args)]) if n in kinds
            ]
            keywords = [(key, kinds[key][0]) for key in kwargs if key in kinds]
            shape = (len(args), *kwargs)
            self.known[shape] = places, keywords


def _kinds(function: Any) -> dict[str, tuple[Kind, Any]]:
    """Kind and default of the parameters that can be checked, by name.

    What was found while a module of an annotation was not imported is not kept: it may be imported later.
    """
    if function in KNOWN:
        return KNOWN[function]
    names = _Names(function.__globals__)
    found = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.annotation is P.empty or parameter.kind in (P.VAR_POSITIONAL, P.VAR_KEYWORD):
            continue
        annotation = parameter.annotation
        if isinstance(annotation, str):
            annotation = eval(annotation, {}, names)  # our own source text
        kind = kind_of(annotation)
        if kind is not None:
            found[key] = kind, parameter.default
    if not names.absent:
        KNOWN[function] = found
    return found


def _finding(key: str, value: Any, kind: Kind) -> str:
    text = f"{key} is {shown(value)}; expected {kind.words}"
    return f"{text}. {kind.way_out}" if kind.way_out else text


def _unbound(name: str, function: Any, kwargs: Mapping[str, Any], error: TypeError) -> str:
    """Why arguments do not fit a function, with the names that it has."""
    parameters = inspect.signature(function).parameters
    known = [key for key, p in parameters.items() if p.kind is not P.VAR_KEYWORD]
    known = [key for key in known if key != "self"]
    unknown = [key for key in kwargs if key not in known]
    allowed = f"expected some of {', '.join(known)}" if known else "expected none"
    if unknown:
        return f"{name} has no argument '{unknown[0]}'; {allowed}{did_you_mean(unknown[0], known)}"
    return f"{name}: {error}; {allowed}"


class _Absent(type):
    """Type of classes of modules that are not imported: no value is of such a class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Absent(name, (), {})


class _Names(dict[str, Any]):
    """Names as an annotation finds them, with modules that are imported for type checkers only."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        super().__init__(module)
        self.absent: set[str] = set()

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        if MODULES.get(name) in sys.modules:
            return sys.modules[MODULES[name]]
        if name in MODULES:
            self.absent.add(name)
            return _Absent(name, (), {})
        raise NameError(f"annotation names '{name}', which is imported for type checkers only")
