"""Kinds: what an annotation says about a value, as a check and as words for a message."""

from __future__ import annotations

import enum
import functools
import itertools
import math
import operator
import os
import types
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "MAX_SEED",
    "MISFIT",
    "Between",
    "Count",
    "Integers",
    "Kind",
    "Numbers",
    "Seed",
    "Unchecked",
    "kind_of",
]

MISFIT: Any = object()
MAX_ITEMS = 1 << 16  # of a sequence that are looked at
MAX_NAME = 255  # bytes of a name in a path, on all common file systems
COUNT_MAX = (1 << 31) - 1  # more than any machine holds
INT64_TOP = 1 << 63
MAX_SEED = INT64_TOP - 1  # the largest seed that torch and NumPy both take
NUMBERS = "biuf"  # kinds of NumPy types that hold real numbers
# Empty where a type statement makes it, as in NumPy 2.5.
ARRAY_LIKE = frozenset(get_args(ArrayLike))
# What to do where a class is expected and people often have something else.
WAYS_OUT = {
    "LoihiGraph": "Read a file with LoihiGraph.load, or lower a network with biril_nm.export.lower",
    "NIRGraph": "Translate a network with biril_nm.export.to_nir, or read a file with "
    "biril_nm.export.nir_files.read_nir",
    "BirilNet": "Make one with biril_nm.build_model, or read a file with biril_nm.load",
    "Module": "Read a file with biril_nm.load",
    "Coding": "Make one with biril_nm.coding.Coding, such as Coding('direct', 4, 8)",
    "Recording": "Take what simulate returned, or read it with Recording.load",
    "DataSet": "Make one with biril_nm.data.load_data",
}


@dataclass(frozen=True)
class Between:
    """Range of a number, both ends included, as ``Annotated[int, Between(1, 8)]`` gives it."""

    low: float
    high: float


@dataclass(frozen=True)
class Finite:
    """An array of finite numbers, or of whole ones that fit 64 bits."""

    whole: bool = False


@dataclass(frozen=True)
class Unchecked:
    """Marks a value that its class checks itself, since it takes more than its annotation says."""


# An array of finite numbers, or what becomes one.
Numbers = Annotated[ArrayLike, Finite()]
# An array of whole numbers, or what becomes one.
Integers = Annotated[ArrayLike, Finite(whole=True)]
Seed = Annotated[int, Between(0, MAX_SEED)]  # where random numbers start
Count = Annotated[int, Between(1, COUNT_MAX)]  # a number of things, at least one


@dataclass(frozen=True)
class Kind:
    """What one annotation allows.

    Attributes:
        words: what is expected, as messages say it.
        take: value -> the value as the function gets it, or MISFIT.
        way_out: what to do instead, or nothing.
        exact: classes whose own instances (not those of subclasses) all fit as they are, so that
            they need no look.
    """

    words: str
    take: Callable[[Any], Any]
    way_out: str = ""
    exact: frozenset[type[Any]] = frozenset()


def kind_of(annotation: Any) -> Kind | None:
    """The kind of a resolved annotation; None where it says nothing that can be checked."""
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if hasattr(origin, "__value__"):  # NDArray[...] is made by a type statement in NumPy 2.5
        origin = get_origin(origin.__value__)
    if origin in GENERIC:
        return GENERIC[origin](args)
    if isinstance(origin, type) and issubclass(origin, abc.Iterable):
        return _items(origin, args)
    return _class(annotation) if isinstance(annotation, type) else None


def _annotated(args: tuple[Any, ...]) -> Kind | None:
    kind = None if Unchecked() in args else kind_of(args[0])
    bounds = next((extra for extra in args[1:] if isinstance(extra, (Between, Finite))), None)
    if kind is None or bounds is None:
        return kind
    if isinstance(bounds, Finite):
        words = "whole" if bounds.whole else "finite"
        return Kind(f"an array of {words} numbers", functools.partial(_finite, bounds.whole))
    inner, low, high = kind.take, bounds.low, bounds.high

    def take(value: Any) -> Any:
        number = inner(value)
        return number if number is not MISFIT and low <= number <= high else MISFIT

    top = f" to {high}" if high != COUNT_MAX else ""
    return Kind(f"{kind.words} from {low}{top}", take)


def _finite(whole: bool, value: Any) -> Any:
    array = _as_array(value)
    if array is MISFIT or not np.isfinite(array).all():
        return MISFIT
    fits = array.dtype.kind in "bi" or bool((np.abs(array) < INT64_TOP).all())
    fits = fits and (array.dtype.kind != "f" or np.array_equal(array, np.rint(array)))
    return value if fits or not whole else MISFIT


def _class(kind: type[Any]) -> Kind | None:
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return None
    if issubclass(kind, enum.Enum):
        values = ", ".join(str(member.value) for member in kind)
        return Kind(f"one of {values}", lambda v: _member(kind, v), exact=frozenset({kind}))
    name = kind.__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    way_out = WAYS_OUT.get(name, "")
    return Kind(f"{article} {name}", _instance(kind), way_out, exact=frozenset({kind}))


def _instance(kind: Any) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, kind) else MISFIT


def _member(kind: type[enum.Enum], value: Any) -> Any:
    try:
        return kind(value)
    except (ValueError, TypeError):
        return MISFIT


def _scalar(value: Any) -> Any:
    """The Python number in an array or tensor without dimensions; other values as they are."""
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        try:
            return value.item()
        except (RuntimeError, ValueError, TypeError, NotImplementedError):  # a tensor without data
            return value
    return value


def _integer(value: Any) -> Any:
    number = _scalar(value)
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        return MISFIT
    try:
        return operator.index(number)
    except TypeError:
        return MISFIT


def _number(value: Any) -> Any:
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return MISFIT
    if isinstance(number, int):
        return number if abs(number) < 1 << 1000 else MISFIT
    return MISFIT if math.isnan(number) else number


def _flag(value: Any) -> Any:
    flag = _scalar(value)
    return flag if isinstance(flag, bool) else MISFIT


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, str) else MISFIT


def _path(value: Any) -> Any:
    try:
        text = os.fspath(value)
    except TypeError:
        return MISFIT
    if not isinstance(text, str) or not text or "\0" in text:
        return MISFIT
    short = all(len(os.fsencode(part)) <= MAX_NAME for part in Path(text).parts)
    return Path(text) if short else MISFIT


def _array(value: Any) -> Any:
    return value if _as_array(value) is not MISFIT else MISFIT


def _as_array(value: Any) -> Any:
    if isinstance(value, (str, bytes, abc.Mapping, abc.Set, type(None))):
        return MISFIT
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError, MemoryError):
        return MISFIT  # lists of unequal length, tensors on a device or with a gradient
    return array if array.dtype.kind in NUMBERS else MISFIT


def _union(args: tuple[Any, ...]) -> Kind | None:
    # Python flattens unions; what ArrayLike is made of belongs together.
    if ARRAY_LIKE and set(args) >= ARRAY_LIKE:
        args = (ArrayLike, *(arg for arg in args if arg not in ARRAY_LIKE))
    if Path in args:
        args = tuple(arg for arg in args if arg is not str)
    kinds = [kind_of(arg) for arg in args]
    if None in kinds:
        return None
    known = [kind for kind in kinds if kind is not None]

    def take(value: Any) -> Any:
        for kind in known:
            found = kind.take(value)
            if found is not MISFIT:
                return found
        return MISFIT

    words = " or ".join(kind.words for kind in known)
    way_out = next((kind.way_out for kind in known if kind.way_out), "")
    return Kind(words, take, way_out, frozenset().union(*(kind.exact for kind in known)))


def _literal(args: tuple[Any, ...]) -> Kind:
    def take(value: Any) -> Any:
        same = (arg for arg in args if isinstance(value, type(arg)) and value == arg)
        return next(same, MISFIT)

    return Kind(f"one of {', '.join(map(repr, args))}", take)


def _function(args: tuple[Any, ...]) -> Kind:
    del args
    return Kind("a function", lambda value: value if callable(value) else MISFIT)


def _ndarray(args: tuple[Any, ...]) -> Kind:
    del args
    return Kind("an array of numbers", _as_array)


def _tuple(args: tuple[Any, ...]) -> Kind | None:
    if args and args[-1] is Ellipsis:
        return _items(tuple, args[:1])
    kinds = [kind_of(arg) for arg in args]

    def take(value: Any) -> Any:
        if not _is_sequence(value) or len(value) != len(kinds):
            return MISFIT
        items = [each if k is None else k.take(each) for k, each in zip(kinds, value)]
        return MISFIT if any(each is MISFIT for each in items) else value

    words = [kind.words if kind else "a value" for kind in kinds]
    return Kind(f"{len(kinds)} values ({', '.join(words)})", take)


def _items(origin: type[Any], args: tuple[Any, ...]) -> Kind | None:
    """Sequences and iterables. Iterators are not looked into, since they can be read once."""
    kind = kind_of(args[0]) if args else None
    sized = issubclass(origin, abc.Sized)

    def look(value: Any) -> Any:
        if isinstance(value, (str, bytes, abc.Mapping)) or not isinstance(value, abc.Iterable):
            return MISFIT
        if isinstance(value, abc.Iterator):
            return MISFIT if sized else value
        if getattr(value, "ndim", 1) == 0 or (sized and not hasattr(value, "__len__")):
            return MISFIT
        if kind is None or not isinstance(value, (abc.Sequence, np.ndarray)):
            return value
        items = [kind.take(each) for each in itertools.islice(value, MAX_ITEMS)]
        if any(each is MISFIT for each in items):
            return MISFIT
        same = len(items) < len(value) or all(new is old for new, old in zip(items, value))
        return value if same else tuple(items)

    def take(value: Any) -> Any:
        quick = type(value) in (tuple, list) and _all_exact(kind, value)
        return value if quick else look(value)

    return Kind(f"a sequence ({kind.words}, ...)" if kind else "a sequence", take)


def _all_exact(kind: Kind | None, values: list[Any]) -> bool:
    return (
        kind is not None and len(values) <= MAX_ITEMS and kind.exact.issuperset(map(type, values))
    )


def _mapping(args: tuple[Any, ...]) -> Kind:
    kinds = [kind_of(arg) for arg in args] or [None, None]

    def take(value: Any) -> Any:
        if not isinstance(value, abc.Mapping):
            return MISFIT
        fit = all(
            kind is None or kind.take(each) is not MISFIT
            for pair in value.items()
            for kind, each in zip(kinds, pair)
        )
        return value if fit else MISFIT

    key, item = (kind.words if kind else "a value" for kind in kinds)
    return Kind(f"a dict ({key}: {item}, ...)", take)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (abc.Sequence, np.ndarray)) and not isinstance(value, (str, bytes))


NONE = Kind("None", lambda value: None if value is None else MISFIT, exact=frozenset({type(None)}))
SIMPLE: dict[Any, Kind | None] = {
    Any: None,
    object: None,
    int: Kind("an integer", _integer, exact=frozenset({int})),
    float: Kind("a number", _number),
    bool: Kind("True or False", _flag, exact=frozenset({bool})),
    str: Kind("a text", _text, exact=frozenset({str})),
    bytes: Kind("bytes", _instance(bytes)),
    None: NONE,
    type(None): NONE,
    Path: Kind("a path", _path),
    ArrayLike: Kind("an array of numbers", _array),
    dict: Kind("a dict", _instance(dict)),
}
GENERIC: dict[Any, Callable[[tuple[Any, ...]], Kind | None]] = {
    Annotated: _annotated,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    tuple: _tuple,
    np.ndarray: _ndarray,
    dict: _mapping,
    abc.Mapping: _mapping,
    abc.Callable: _function,
}
