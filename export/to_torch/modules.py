"""NIR nodes to torch modules: layers of torch, neurons of snnTorch, or a refusal with the way out.

Neurons follow from their dynamics (:mod:`biril_nm.export.nir_nodes.neurons`), ``u <- (1 - a) u + c x`` and
``v <- (1 - g) v + u + drive``:

* a = 1: ``Leaky(beta=1 - g)``; else ``Synaptic(alpha=1 - a, beta=1 - g)``; the input times c, plus drive.
* without threshold: the same without reset and without spikes, of which mem is read.

What a spike does to v becomes ``reset_mechanism`` and ``reset_delay``. Subtraction at once, which snnTorch
has in a guarded form only, is the late one where nothing decays, for then both give the same spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import snntorch as snn
import torch
from torch import nn

from biril_nm.arrays import FloatArray, Shape
from biril_nm.compartments import SpikeReset
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.nir_nodes.fixed_map import DENSE_MAX, FixedMap
from biril_nm.export.nir_nodes.neurons import Dynamics
from biril_nm.loihi import ResetMode
from biril_nm.neurons.surrogates import AtanSurrogate

__all__ = ["NEVER", "layers_of", "neuron_of"]

NEVER = 2.0**30  # a threshold that no membrane reaches
Layers = list[tuple[str, nn.Module]]  # suffix of the name, module


def neuron_of(name: str, found: Dynamics, shape: Shape) -> tuple[nn.Module, dict[str, Any]]:
    """The neurons of one node, and the constants ``gain`` and ``drive`` where its input needs them.

    Raises:
        UnsupportedNodeError: snnTorch has no such neuron.
    """
    filtered = bool(np.any(found.u_decay != 1)) or found.reset.loses_input
    if filtered and np.any(found.drive != 0):
        raise UnsupportedNodeError(
            f"node '{name}': v_leak differs from v_reset behind a synaptic filter; expected the same, since "
            f"Synaptic of snnTorch has no constant input to mem. Set v_leak to v_reset, or lower the graph "
            f"itself"
        )
    options: dict[str, Any] = {"beta": _value(1 - found.v_decay), "init_hidden": True}
    options["spike_grad"] = AtanSurrogate()
    if found.spiking:
        options |= {"threshold": _value(found.threshold), **_reset(name, found)}
    else:
        options |= {"threshold": NEVER, "reset_mechanism": "none", "output": True}
    if filtered:
        module: nn.Module = snn.Synaptic(alpha=_value(1 - found.u_decay), **options)
    else:
        module = snn.Leaky(**options)
    constants = {"gain": (found.weight_gain, 1.0), "drive": (found.drive, 0.0)}
    return module, {
        key: _tensor(_compact(value))
        for key, (value, neutral) in constants.items()
        if np.any(value != neutral)
    }


def _reset(name: str, found: Dynamics) -> dict[str, Any]:
    reset: SpikeReset = found.reset
    late = reset.delayed
    if (
        reset.mode is ResetMode.ZERO
        and late
        and not reset.loses_input
        and np.any(found.u_decay != 1)
    ):
        late = False  # Synaptic would lose input; the spikes are those of a reset at once
    if reset.mode is ResetMode.SUBTRACT and not late and not reset.guarded:
        if np.any(found.v_decay != 0):
            raise UnsupportedNodeError(
                f"node '{name}': a spike takes the threshold from v at once; expected zero, a guarded or a "
                f"late subtraction, which snnTorch has where v decays. Change 'reset_delay' or "
                f"'reset_guarded' in its metadata and train on, or lower the graph itself"
            )
        late = True
    return {"reset_mechanism": reset.mode.value, "reset_delay": late}


def _compact(value: FloatArray) -> FloatArray:
    """One number where all are equal."""
    array = np.asarray(value, dtype=np.float64)
    return array.reshape(-1)[:1].reshape(()) if np.all(array == array.flat[0]) else array


def _tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(value, dtype=np.float64))


def _value(value: FloatArray) -> torch.Tensor:
    return _tensor(_compact(value))


# --- layers without memory -------------------------------------------------------------------------


def layers_of(node: Any, name: str, in_shape: Shape, out_shape: Shape) -> Layers:
    """Modules that do together what a node does; the last has no suffix.

    Raises:
        UnsupportedNodeError: torch has no such layer.
    """
    build = _LAYERS.get(type(node))
    if build is None:
        raise UnsupportedNodeError(
            f"node '{name}' ({type(node).__name__}) has no layer in torch; expected one of "
            f"{', '.join(kind.__name__ for kind in _LAYERS)}. Lower the graph itself instead"
        )
    if isinstance(node, FixedMap) and np.prod(node.matrix.shape, dtype=float) > DENSE_MAX:
        raise UnsupportedNodeError(
            f"node '{name}' is a matrix of {' x '.join(map(str, node.matrix.shape))} entries, most of them "
            f"zeros, which torch stores; expected at most {DENSE_MAX}. Lower the graph itself instead"
        )
    return build(node, in_shape, out_shape)


def _with(module: nn.Module, weight: Any, bias: Any = None) -> nn.Module:
    """A module with these weights."""
    plain: Any = module
    plain.weight = nn.Parameter(_tensor(weight))
    if bias is not None:
        plain.bias = nn.Parameter(_tensor(np.broadcast_to(bias, (len(weight),))))
    return module


def _linear(node: Any, in_shape: Shape, out_shape: Shape) -> Layers:
    weight = node.matrix.toarray() if isinstance(node, FixedMap) else node.weight
    bias = getattr(node, "bias", None)
    bias = None if bias is None or not np.size(bias) else bias
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    first: Layers = [] if len(in_shape) == 1 else [("_flatten", nn.Flatten())]
    body = _with(module, weight, bias)
    if len(out_shape) == 1:
        return [*first, ("", body)]
    return [*first, ("_matrix", body), ("", nn.Unflatten(1, out_shape))]


def _conv(node: Any, in_shape: Shape, out_shape: Shape) -> Layers:
    rank = node.weight.ndim - 2
    kind: Any = nn.Conv1d if rank == 1 else nn.Conv2d
    bias = node.bias if np.any(node.bias) else None
    padding = node.padding if isinstance(node.padding, str) else _sizes(node.padding, rank)
    module = kind(
        in_shape[0], len(node.weight), tuple(node.weight.shape[2:]), stride=_sizes(node.stride, rank),
        padding=padding, dilation=_sizes(node.dilation, rank), groups=in_shape[0] // node.weight.shape[1],
        bias=bias is not None, dtype=torch.float64,
    )  # fmt: skip
    return [("", _with(module, node.weight, bias))]


def _sizes(value: Any, rank: int) -> Any:
    return tuple(int(n) for n in np.broadcast_to(value, rank))


def _average(node: Any, in_shape: Shape, out_shape: Shape) -> Layers:
    return _pool(node, divisor=None)


def _sum(node: Any, in_shape: Shape, out_shape: Shape) -> Layers:
    return _pool(node, divisor=1)


def _pool(node: Any, divisor: int | None) -> Layers:
    kernel, stride, padding = (_sizes(v, 2) for v in (node.kernel_size, node.stride, node.padding))
    if all(2 * p <= k for p, k in zip(padding, kernel)):
        return [("", nn.AvgPool2d(kernel, stride, padding, divisor_override=divisor))]
    y, x = padding  # more than torch's pooling takes
    body = nn.AvgPool2d(kernel, stride, divisor_override=divisor)
    return [("_pad", nn.ZeroPad2d((x, x, y, y))), ("", body)]


def _flatten(node: Any, in_shape: Shape, out_shape: Shape) -> Layers:
    start, end = (
        d + len(in_shape) if d < 0 else d for d in (int(node.start_dim), int(node.end_dim))
    )
    return [("", nn.Flatten(start + 1, end + 1))]


_LAYERS: dict[type, Callable[[Any, Shape, Shape], Layers]] = {
    nir.Linear: _linear,
    nir.Affine: _linear,
    FixedMap: _linear,
    nir.Conv1d: _conv,
    nir.Conv2d: _conv,
    nir.AvgPool2d: _average,
    nir.SumPool2d: _sum,
    nir.Flatten: _flatten,
    nir.Scale: lambda node, in_shape, out_shape: [("", nn.Identity())],  # its factor is a constant
}
