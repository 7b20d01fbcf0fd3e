"""Compiled steps of compartment models, made from the plain functions that declare them.

A population travels with a record whose class stands for its model, so that numba compiles, and keeps on
disk, one kernel for each. The class is called after the model and the digest of its file, and is made
again from that name alone wherever machine code of it is loaded.
"""

from __future__ import annotations

import hashlib
import os
from collections import namedtuple
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import NDArray

from biril_nm.compartments import CompartmentModel, source_of
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.kernels.jit import choice, part

__all__ = ["compiled", "is_model_registers", "model_registers", "step_model"]

PREFIX = "Registers_"

_models: dict[str, CompartmentModel] = {}


def compiled(function: Any) -> Any:
    """A plain function as a part of kernels, and with it the plain functions that it calls."""
    scope = dict(function.__globals__)
    for name in function.__code__.co_names:
        if isinstance(scope.get(name), FunctionType):
            scope[name] = _compiled_once(scope[name])
    copy = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    return part(copy)


_compiled_once = cache(compiled)


def __getattr__(name: str) -> Any:
    """Classes of registers, by their names: what a kernel on disk refers to."""
    if name.startswith(PREFIX):
        return _registers_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _registers_class(name: str) -> Any:
    return namedtuple(name, ("constants",), module=__name__)


def model_registers(model: CompartmentModel, constants: NDArray[np.int64]) -> Any:
    """The record of a population: constants (n_constants, n), or (n_constants, 1) where all share them."""
    name = f"{PREFIX}{model.name}_{len(constants)}_{_digest(model.name)}"
    _models[name] = model
    return _registers_class(name)(constants)


def is_model_registers(record: Any) -> bool:
    """Whether the numba type of a record is that of a compartment model without kernels of its own."""
    return bool(record.instance_class.__name__.startswith(PREFIX))


def _digest(name: str) -> str:
    """Digest of the file of a model; without a file, one that no other process has."""
    try:
        content = source_of(name).read_bytes()
    except ConfigError:
        content = f"{os.getpid()}".encode()
    return hashlib.sha256(content).hexdigest()[:16]


@choice
def step_model(a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any) -> Any:
    """One step of a population with finished input ``a``; ``more`` (n_words, n) is its further state."""
    name = registers.instance_class.__name__
    model = _models[name]
    n_constants = int(name.removeprefix(f"{PREFIX}{model.name}_").split("_")[0])
    n_words = len(model.state) - 2
    step = _compiled_once(model.step)
    return _with_words(step, n_constants, n_words) if n_words else _plain(step, n_constants)


def _plain(step: Any, n_constants: int) -> Any:
    def advance(a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any) -> None:
        constants = registers.constants
        each = constants.shape[1] > 1
        for i in range(v.size):
            fixed = to_fixed_tuple(constants[:, i if each else 0], n_constants)
            state, spike = step(np.int64(a[i]), (np.int64(u[i]), np.int64(v[i])), fixed)
            u[i] = state[0]
            v[i] = state[1]
            s[i] = spike

    return advance


def _with_words(step: Any, n_constants: int, n_words: int) -> Any:
    def advance(a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any) -> None:
        constants = registers.constants
        each = constants.shape[1] > 1
        for i in range(v.size):
            fixed = to_fixed_tuple(constants[:, i if each else 0], n_constants)
            words = to_fixed_tuple(more[:, i], n_words)
            state, spike = step(np.int64(a[i]), (np.int64(u[i]), np.int64(v[i]), *words), fixed)
            u[i] = state[0]
            v[i] = state[1]
            for k in range(n_words):
                more[k, i] = state[2 + k]
            s[i] = spike

    return advance
