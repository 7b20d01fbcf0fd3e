"""The effect of torch code on a signal as a sparse matrix, found by running it.

What only moves or copies values is found with one run on numbered values. Everything else is run on
impulses, one input at a time, many at once. Whether the code is linear, and keeps samples of a batch
apart, is checked on random values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse
import torch

from biril_nm.arrays import Shape
from biril_nm.errors import RangeError, UnsupportedNodeError
from biril_nm.export.nir_nodes.fixed_map import FixedMap
from biril_nm.export.nir_nodes.linear_maps import MAX_UNROLLED
from biril_nm.loihi import WEIGHT_BITS
from biril_nm.loihi.cores import LOIHI2_LIMITS

__all__ = ["check_size", "linear_effect", "windows_effect"]

Function = Callable[[torch.Tensor], torch.Tensor]
# Inputs times outputs of one map, which impulses go through.
AREA_MAX = 1 << 33
# Values that are in memory at once.
CHUNK = 1 << 22
PROBES = 16
TOLERANCE = 1e-6


def linear_effect(
    function: Function, in_shape: Shape, batch: int, name: str, any_batch: bool = False
) -> FixedMap:
    """``function`` of signals (batch, *in_shape) as ``y = W x + b``.

    Args:
        function: any torch code.
        in_shape: without batch.
        batch: a batch size that the function takes.
        name: for messages.
        any_batch: whether it takes every other one as well, which is faster.

    Raises:
        UnsupportedNodeError: the function is not linear, or mixes the samples of a batch.
        RangeError: the map is too large.
    """
    with _quiet():
        zero = torch.zeros(batch, *in_shape, dtype=torch.float64)
        offset = function(zero)
        shape = tuple(offset.shape[1:])
        moved = None if bool(torch.any(offset != 0)) else _moved(function, zero, offset)
        if moved is not None:
            return moved
        each = _as_batch(function) if any_batch else _one_by_one(function)
        samples = slice(1) if any_batch else slice(None)
        matrix = _impulses(each, zero[samples], offset[samples], name)
        found = FixedMap.of(matrix, offset[0].numpy().ravel(), in_shape, shape)
        if np.all(np.isfinite(found.weight)) and not _agrees(function, found, _normal(zero)):
            raise UnsupportedNodeError(
                f"'{name}' is not linear, or mixes the samples of a batch: its result is not one matrix "
                f"times each sample; expected a linear function of the signal. Put a neuron in its place, or "
                f"do it outside of the network"
            )
    return found


def windows_effect(function: Function, in_shape: Shape, batch: int, name: str) -> FixedMap:
    """Which inputs the outputs of a maximum are taken of, as a matrix of ones.

    Raises:
        UnsupportedNodeError: the function is not a maximum of spikes.
    """
    with _quiet():
        zero = torch.zeros(batch, *in_shape, dtype=torch.float64)
        offset = function(zero)
        matrix = _impulses(_one_by_one(function), zero, offset, name)
        found = FixedMap.of(matrix, None, in_shape, tuple(offset.shape[1:]))
        spikes = (torch.rand(zero.shape, generator=_seeded()) < 0.2).double()
        got = torch.from_numpy(found.matrix @ spikes.reshape(batch, -1).numpy().T).T > 0
        if bool(torch.any(offset != 0)) or not torch.equal(
            got.double().reshape(offset.shape), function(spikes)
        ):
            raise UnsupportedNodeError(
                f"'{name}' is not the largest of some spikes of each sample; expected a maximum over "
                f"windows. Use MaxPool1d or MaxPool2d"
            )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """No gradients, and none of torch's remarks on speed."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _normal(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=_seeded(), dtype=torch.float64)


def _moved(function: Function, zero: torch.Tensor, offset: torch.Tensor) -> FixedMap | None:
    """The map of a function that moves, copies and drops values; None for any other."""
    n_in, batch = zero[0].numel(), len(zero)
    numbers = torch.arange(1, n_in + 1, dtype=torch.float64).reshape(1, *zero.shape[1:])
    sources = function(numbers.expand(zero.shape))[0].ravel().numpy()
    whole = np.isfinite(sources) & (sources == np.rint(sources))
    if not np.all(whole & (sources >= 0) & (sources <= n_in)):
        return None
    rows = np.flatnonzero(sources)
    columns = sources[rows].astype(np.int64) - 1
    shape = (sources.size, n_in)
    matrix = scipy.sparse.csr_matrix((np.ones(rows.size), (rows, columns)), shape=shape)
    found = FixedMap.of(matrix, None, tuple(zero.shape[1:]), tuple(offset.shape[1:]))
    return found if batch and _agrees(function, found, _normal(zero)) else None


def _agrees(function: Function, found: FixedMap, signal: torch.Tensor) -> bool:
    """Whether function and map give the same for every sample."""
    want = function(signal).numpy().reshape(len(signal), -1)
    got = (found.matrix @ signal.reshape(len(signal), -1).numpy().T).T
    got = got + (found.bias if found.bias.size else 0.0)
    limit = TOLERANCE * (1.0 + np.abs(got).max(initial=0.0))
    return want.shape == got.shape and bool(np.all(np.abs(want - got) <= limit))


def _impulses(each: Function, zero: torch.Tensor, offset: torch.Tensor, name: str) -> Any:
    """The matrix (out, in) of what each single input changes in the first sample."""
    n_in, n_out = zero[0].numel(), offset[0].numel()
    few = 1 if n_in * n_out > AREA_MAX else PROBES
    probes = np.unique(np.linspace(0, n_in - 1, few + 2)[1:-1].astype(np.int64))
    seen = _response(each, zero, offset, probes).nnz
    shapes = (tuple(zero.shape[1:]), tuple(offset.shape[1:]))
    check_size(name, *shapes, round(seen * n_in / len(probes)))
    at_once = max(1, CHUNK // max(zero.numel(), offset.numel(), 1))
    starts = range(0, n_in, at_once)
    parts = [
        _response(each, zero, offset, np.arange(start, min(start + at_once, n_in)))
        for start in starts
    ]
    return scipy.sparse.csr_matrix(
        scipy.sparse.vstack(parts).T if parts else np.zeros((n_out, n_in))
    )


def _response(each: Function, zero: torch.Tensor, offset: torch.Tensor, inputs: Any) -> Any:
    """What impulses at some inputs change, a row for each."""
    basis = torch.zeros(len(inputs), *zero.shape, dtype=torch.float64)
    flat = basis.reshape(len(inputs), len(zero), -1)
    flat[torch.arange(len(inputs)), 0, torch.from_numpy(inputs)] = 1.0
    changed = each(basis)[:, 0] - offset[0]
    return scipy.sparse.csr_matrix(changed.reshape(len(inputs), -1).numpy())


def _one_by_one(function: Function) -> Function:
    """The function of each signal (n, batch, *shape), at once where torch can."""

    def each(signals: torch.Tensor) -> torch.Tensor:
        try:
            together: Any = torch.vmap(function)(signals)
            return torch.as_tensor(together)
        except (RuntimeError, ValueError, TypeError):  # functions that vmap does not know
            return torch.stack([function(signal) for signal in signals])

    return each


def _as_batch(function: Function) -> Function:
    """The same with signals of one sample as the samples of one batch."""
    return lambda signals: function(signals[:, 0])[:, None]


def check_size(
    name: str, in_shape: Shape, out_shape: Shape, synapses: int, impulses: bool = True
) -> None:
    """Refuse a map that is too large to be built, or to be found by impulses.

    Raises:
        RangeError: too many synapses, or pairs of input and output.
    """
    area = int(np.prod(in_shape)) * int(np.prod(out_shape))
    if synapses <= MAX_UNROLLED and (area <= AREA_MAX or not impulses):
        return
    limits = LOIHI2_LIMITS
    held = limits.cores.value * limits.synapse_bits.value // WEIGHT_BITS
    raise RangeError(
        f"'{name}' from {in_shape} to {out_shape} is a map of about {synapses} synapses; expected at most "
        f"{MAX_UNROLLED} (and {AREA_MAX} pairs of input and output, of which it has {area}). One "
        f"{limits.chip} holds up to {held} synapses of {WEIGHT_BITS} bits. Use a smaller map, or a "
        f"convolution"
    )
