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
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigError(_unbound(name, signature, kwargs, error)) from None
        findings = []
        for key, kind in _kinds(function).items():
            if key in bound.arguments and bound.arguments[key] is not (
                signature.parameters[key].default
            ):
                value = bound.arguments[key]
                bound.arguments[key] = kind.take(value)
                if bound.arguments[key] is MISFIT:
                    findings.append(_finding(key, value, kind))
        if findings:
            one = (
                f"{name}: {findings[0]}"
                if len(findings) == 1
                else bullet_list(f"{name}:", findings)
            )
            raise ConfigError(one)
        return function(*bound.args, **bound.kwargs)

    return call


@functools.cache
def _kinds(function: Any) -> dict[str, Kind]:
    """Kinds of the parameters that can be checked, by name."""
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
            found[key] = kind
    return found


def _finding(key: str, value: Any, kind: Kind) -> str:
    text = f"{key} is {shown(value)}; expected {kind.words}"
    return f"{text}. {kind.way_out}" if kind.way_out else text


def _unbound(
    name: str, signature: inspect.Signature, kwargs: Mapping[str, Any], error: TypeError
) -> str:
    """Why arguments do not fit a signature, with the names that it has."""
    known = [key for key, p in signature.parameters.items() if p.kind is not P.VAR_KEYWORD]
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

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        if name in MODULES:
            return sys.modules.get(MODULES[name], _Absent(name, (), {}))
        raise NameError(f"annotation names '{name}', which is imported for type checkers only")
