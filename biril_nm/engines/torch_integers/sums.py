"""Connections in torch: sums of weights as products of floats that hold every sum exactly.

No partial sum of a product has a larger magnitude than the sum of all magnitudes, which is known. Where that
bound is below 2**24 the product is one of float32, else one of float64, so that the order of its additions
does not matter. Convolutions are such products of patches: other algorithms (Winograd, FFT) multiply by
fractions. Oracle: :mod:`biril_nm.hardware_sim.kernels.synapse` and ``finish`` beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.synapses import (
    common_shift,
    conv_bound,
    prepared_weights,
    shifted_kernel,
)
from biril_nm.hw_graph import Connection, Conv, Dense, LoihiGraph, Sparse
from biril_nm.loihi import CONV_SUM_HALF, INT32_BITS, INT32_HALF
from biril_nm.loihi.integers import to_int32

__all__ = ["Sums", "make_sums"]

FLOAT32_BITS, FLOAT64_BITS = 24, 53  # integers of a smaller magnitude than 2**bits are exact
INT64_BITS = 64
PATCH_BYTES = 1 << 28  # of the patches that one product takes


@dataclass(frozen=True, eq=False)
class Sums:
    """One connection.

    Attributes:
        source: where its spikes come from.
        slack: steps from spike to arrival in node time.
        node: the connection.
        shape: of the target.
        weight: (post, pre) of a Dense or Sparse, (groups, in/groups kH kW, out/groups) of a Conv; floats
            without the power of two that all weights share.
        bound: no sum of these weights has a larger magnitude.
        left, right: shifts that make a sum what is delivered.
        keeps_all: whether 64 bits of a sum are shifted to the right; else 32.
    """

    source: str
    slack: int
    node: Connection
    shape: Shape
    weight: Tensor
    bound: int
    left: int
    right: int
    keeps_all: bool

    def __call__(self, spikes: Tensor) -> Tensor:
        """What rows of spikes ``(n, *source)`` deliver, int32 ``(n, *shape)``."""
        if isinstance(self.node, Conv):
            return self._modulo(self._convolved(spikes))
        rows = spikes.flatten(1).to(self.weight.dtype)
        if isinstance(self.node, Sparse):
            sums = torch.sparse.mm(self.weight, rows.T).T
        else:
            sums = functional.linear(rows, self.weight)
        return self._shifted(sums).reshape(len(spikes), *self.shape)

    def _convolved(self, spikes: Tensor) -> Tensor:
        n_patch = self.weight.shape[0] * self.weight.shape[1] * self.shape[1] * self.shape[2]
        size = max(1, PATCH_BYTES // max(1, n_patch * self.weight.element_size()))
        return torch.cat([self._patches_times_kernels(rows) for rows in torch.split(spikes, size)])

    def _patches_times_kernels(self, spikes: Tensor) -> Tensor:
        node: Any = self.node
        geometry = (node.weight.shape[2:], node.dilation, node.padding, node.stride)
        patches = functional.unfold(spikes.to(self.weight.dtype), *geometry)
        groups, width, _ = self.weight.shape
        patches = patches.reshape(len(spikes), groups, width, -1).permute(1, 0, 3, 2)
        sums = torch.bmm(patches.reshape(groups, -1, width), self.weight)
        rows = sums.reshape(groups, len(spikes), -1, self.weight.shape[2])
        return rows.permute(1, 0, 3, 2).reshape(len(spikes), *self.shape)

    def _shifted(self, sums: Tensor) -> Tensor:
        if self.bound << self.left < INT32_HALF:
            return (sums.to(torch.int32) << self.left) >> min(self.right, INT32_BITS - 1)
        whole = sums.to(torch.int64) << self.left
        whole = whole if self.keeps_all else to_int32(whole)
        return (whole >> min(self.right, INT64_BITS - 1)).to(torch.int32)

    def _modulo(self, sums: Tensor) -> Tensor:
        """Modulo 2**24, signed; sums beyond 32 bits are 0, as Lava casts them on x86."""
        if self.bound << self.left < CONV_SUM_HALF:
            return sums.to(torch.int32) << self.left
        whole = sums.to(torch.int64) << self.left
        whole = whole * ((whole >= -INT32_HALF) & (whole < INT32_HALF))
        whole = ((whole + CONV_SUM_HALF) & (2 * CONV_SUM_HALF - 1)) - CONV_SUM_HALF
        return whole.to(torch.int32)


def make_sums(graph: LoihiGraph, name: str, device: torch.device, float32: bool = True) -> Sums:
    """Prepare one connection.

    Args:
        graph: the network.
        name: of the connection.
        device: where its weights lie.
        float32: whether products of float32 are exact on that device; else all are float64.

    Raises:
        ConfigError: sums that no float holds; a Conv that the simulator refuses.
        RangeError: weights that do not fit what Lava's Conv takes, or sums beyond what it adds exactly.
    """
    node, (source, target) = graph.connections[name], graph.ends[name]
    bits, exponent = graph.message_bits_into(name), node.weight_exp
    integers = _integers(name, node)
    keeps_all = False
    if isinstance(node, Conv):
        conv_bound(name, integers, bits)  # raises
    else:
        late = isinstance(node, Dense) and node.delay > 0
        keeps_all = exponent < 0 and (late or bits == 0)
    shift = common_shift(integers)
    rows = _rows(node, integers >> shift)
    payload = (1 << bits) - 1 if bits else 1
    bound = int(abs(rows).sum(axis=1).max()) * payload if min(rows.shape) else 0
    _check(name, integers, bound, payload, keeps_all and bits > 0)
    exact = torch.float32 if float32 and bound >> FLOAT32_BITS == 0 else torch.float64
    left, right = (0, 0) if isinstance(node, Conv) else (max(exponent, 0), max(-exponent, 0))
    return Sums(
        source=source,
        slack=graph.timing.slack[name],
        node=node,
        shape=graph.shape_of(target),
        weight=_tensor(node, rows).to(device, exact),
        bound=bound,
        left=min(left, INT32_BITS - 1) + shift,
        right=right,
        keeps_all=keeps_all,
    )


def _integers(name: str, node: Connection) -> IntArray:
    """Weights as Lava has them, all or those that are stored."""
    if isinstance(node, Conv):
        return shifted_kernel(name, node)
    stored = node.weight.data if isinstance(node, Sparse) else node.weight
    return prepared_weights(node, stored)


def _rows(node: Connection, integers: IntArray) -> Any:
    """The weights of each target as a row: an array or a scipy matrix."""
    if isinstance(node, Sparse):
        import scipy.sparse

        places = (node.weight.indices, node.weight.indptr)
        return scipy.sparse.csr_matrix((integers, *places), shape=node.weight.shape)
    return integers.reshape(len(integers), -1)


def _tensor(node: Connection, rows: Any) -> Tensor:
    """The weights as products take them, float64."""
    if isinstance(node, Sparse):
        coo = rows.tocoo()
        places = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        values = torch.from_numpy(coo.data.astype(np.float64))
        matrix = torch.sparse_coo_tensor(places, values, rows.shape, check_invariants=False)
        return matrix.coalesce()
    weight = torch.from_numpy(rows.astype(np.float64))
    if isinstance(node, Conv):
        weight = weight.reshape(node.groups, -1, rows.shape[1]).transpose(1, 2).contiguous()
    return weight


def _check(name: str, integers: IntArray, bound: int, payload: int, products_wrap: bool) -> None:
    if bound >> FLOAT64_BITS:
        raise ConfigError(
            f"connection '{name}' can sum up to {bound}; expected less than 2**{FLOAT64_BITS}, which "
            f"float64 holds exactly. Use the engine 'sim', or narrower messages"
        )
    largest = int(np.abs(integers).max(initial=0)) * payload
    if products_wrap and largest >= INT32_HALF:
        raise ConfigError(
            f"connection '{name}' has products up to {largest}, which wrap in 32 bits before they are added; "
            f"expected less than 2**{INT32_BITS - 1}. Use the engine 'sim', or narrower messages"
        )
