"""torch modules to NIR: traced by running them, our own map of layers, shapes from a sample input.

NIR has no reset kind, step width, input coding or read-out. They travel as metadata that survives
``nir.write`` and ``nir.read``:

=============  ==========================================================================
graph          ``producer``, ``dt`` (s)
Input node     ``coding`` (direct, rate, spikes), ``n_steps``, ``message_bits``, ``scale``
Output node    ``readout``: how the forward puts the steps together (stack, sum, mean, last), or
               ``membrane`` if it returns v instead of spikes; nothing for one step of spikes
neuron node    ``reset`` (zero, subtract, none), ``reset_delay`` (1: at the start of the next
               step), ``reset_drops_input`` (1: that step's input is lost too), ``dt`` (s); IF nodes
               also ``if_integration = per_step``: v grows by r x per step, whatever dt is
other nodes    ``lag = 1``: receives what its source sent at the previous step (recurrence)
convolutions   ``groups``, ``kernel``, ``zeros_before``, ``padding``, ``crop``: see
               :mod:`biril_nm.export.passes.typed_convolutions`
=============  ==========================================================================
"""

from __future__ import annotations

import copy
import inspect
import logging
from typing import Any

import nir
import torch
from torch import nn

import biril_nm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.passes.fold_batchnorm import fold_batchnorm
from biril_nm.export.passes.typed_convolutions import typed
from biril_nm.export.torch_graph import GraphBuilder
from biril_nm.export.torch_layers import LAYER_MAP, VANISHING
from biril_nm.export.torch_neurons import NEURONS, STATES
from biril_nm.export.torch_steps import trace_network
from biril_nm.models import BirilNet

__all__ = ["to_nir"]

log = logging.getLogger(__name__)


def to_nir(module: nn.Module, sample_input: Any = None, dt_s: float = 1e-4) -> nir.NIRGraph:
    """Translate a network into a NIR graph.

    Args:
        module: a BirilNet, or any module of torch layers and snnTorch neurons. Its forward computes one
            time step (with hidden states, or states as further arguments), or loops over time itself.
        sample_input: one step of input with batch dimension, ``(batch, *shape)``; if forward loops
            over time, what it takes then, with two or more steps. A tuple for several inputs. A
            BirilNet knows its own shape and needs none.
        dt_s: width of a step in seconds; time constants are given relative to it.

    Returns:
        A graph whose nodes are called as the torch modules (``conv1``, ``block1.lif2``), a folded
        BatchNorm joining the names (``conv1+bn1``), the loop of a recurrent layer
        ``lif1.recurrent``, with all types inferred.

    Raises:
        UnsupportedNodeError: a layer has no NIR form; all of them are listed.
        ConfigError: ``dt_s`` or ``sample_input`` make no sense.
    """
    if not dt_s > 0:
        raise ConfigError(f"dt_s is {dt_s}; the width of a step must be above 0 s")
    root, samples, coding = _root(module, sample_input)
    root = _copy(root)
    dtype = next((p.dtype for p in root.parameters()), torch.float32)
    samples = [s.detach().cpu().to(dtype) for s in samples]
    known = (*LAYER_MAP, *NEURONS, *VANISHING)
    if isinstance(root, known):
        raise UnsupportedNodeError(
            f"{type(root).__name__} is a single layer; wrap it in a network that ends in neurons"
        )
    wiring = trace_network(root, samples, known, STATES)
    builder = GraphBuilder(root, wiring, dt_s, list(inspect.signature(root.forward).parameters))
    nodes, edges = builder.build()
    if coding is not None:
        (source,) = (node for node in nodes.values() if isinstance(node, nir.Input))
        told = {k: v for k, v in coding.to_dict().items() if k != "kind"}
        source.metadata = {**told, "coding": coding.kind, "scale": coding.scale}
    nodes, edges = typed(*fold_batchnorm(nodes, edges))
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=edges,
        metadata={"producer": f"biril-nm {biril_nm.__version__}", "dt": float(dt_s)},
    )
    log.info("translated %d layers to NIR", len(nodes))
    return graph


def _root(
    module: nn.Module, sample_input: Any
) -> tuple[nn.Module, list[torch.Tensor], Coding | None]:
    if isinstance(module, BirilNet):
        shape = tuple(module.config.input_shape)
        return module.layers, [torch.zeros(1, *shape)], module.config.coding
    inner = getattr(module, "_orig_mod", None) or (
        module.module if isinstance(module, nn.DataParallel) else None
    )
    if inner is not None:  # torch.compile and DataParallel wrap the network
        return _root(inner, sample_input)
    if sample_input is None:
        raise ConfigError(
            f"{type(module).__name__} needs a sample_input: one step of input, (batch, *shape)"
        )
    given = [sample_input] if isinstance(sample_input, torch.Tensor) else list(sample_input)
    samples = [sample for sample in given if sample is not None]
    for sample in samples:
        if not isinstance(sample, torch.Tensor) or sample.ndim < 2:
            found = getattr(sample, "shape", type(sample).__name__)
            raise ConfigError(f"sample_input has shape {found}; needed is (batch, *shape)")
    return module, samples, None


def _copy(root: nn.Module) -> Any:
    """A copy on the CPU in eval mode with neurons at rest; states of a training graph are left out."""
    memo = {
        id(tensor): tensor.detach().clone()
        for tensor in root.buffers()
        if not tensor.is_leaf or tensor.requires_grad
    }
    for module in root.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    copied = copy.deepcopy(root, memo).cpu().eval()
    for layer in copied.modules():
        for kind, names in STATES.items():
            if isinstance(layer, kind):
                for name in names:
                    setattr(layer, name, torch.zeros(0))
    return copied
