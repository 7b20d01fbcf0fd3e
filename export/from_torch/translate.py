"""torch modules to NIR: traced by running them, our own map of layers, shapes from a sample input.

NIR has no reset kind, step width, input coding or readout. They travel as metadata that survives
``nir.write`` and ``nir.read``:

=============  ==========================================================================
graph          ``producer``, ``dt`` (s), ``decision`` (count, score, membrane): score for a BirilNet,
               which is trained on it, else count
Input node     ``coding`` (direct, counts, signed, rate, spikes), ``n_steps``, ``message_bits``,
               ``scale``, ``signed`` (1: messages have a sign)
Output node    ``readout``: how the forward puts the steps together (stack, sum, mean, last), or
               ``membrane`` if it returns v instead of spikes; nothing for one step of spikes.
               ``position``: of several outputs, from 0; the first one classifies.
               ``over`` (sum, mean): what of v it returns, if not v itself
neuron node    ``reset`` (zero, subtract, none), ``reset_delay`` (1: at the start of the next
               step), ``reset_drops_input`` (1: that step's input is lost too), ``reset_guarded`` (1:
               see :mod:`biril_nm.export.nir_nodes.resets`), ``dt`` (s); IF nodes
               also ``if_integration = per_step``: v grows by r x per step, whatever dt is
other nodes    ``lag = 1``: receives what its source sent at the previous step (recurrence)
convolutions   ``groups``, ``kernel``, ``zeros_before``, ``padding``, ``crop``: see
               :mod:`biril_nm.export.nir_nodes.typed_convolutions`
=============  ==========================================================================
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Mapping
from typing import Annotated, Any

import nir
import numpy as np
import torch
from torch import nn

import biril_nm
from biril_nm.arguments import Unchecked, checked
from biril_nm.coding import Coding
from biril_nm.decision import DEFAULT_DECISION
from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.from_torch.graph import GraphBuilder
from biril_nm.export.from_torch.maps import with_flat_inputs
from biril_nm.export.from_torch.module import check_module, resting_copy
from biril_nm.export.from_torch.registry import kind_of
from biril_nm.export.from_torch.runs import trace_network
from biril_nm.export.from_torch.sizes import check_sizes
from biril_nm.export.from_torch.step_counts import trace_counted
from biril_nm.export.from_torch.wiring import Wiring
from biril_nm.export.nir_nodes.coding import with_coding
from biril_nm.export.nir_nodes.decision import DECISION
from biril_nm.export.nir_nodes.fold_batchnorm import fold_batchnorm
from biril_nm.export.nir_nodes.metadata import step_width
from biril_nm.export.nir_nodes.typed_convolutions import typed
from biril_nm.models import BirilNet, OwnNet
from biril_nm.models.nir_net import NirNet
from biril_nm.models.wrappers import module_of, unwrapped

__all__ = ["to_nir"]

log = logging.getLogger(__name__)


@checked
def to_nir(
    module: Annotated[nn.Module, Unchecked()],
    sample_input: Any = None,
    dt_s: Annotated[float, Unchecked()] = 1e-4,
    coding: Coding | Mapping[str, Coding] | None = None,
) -> nir.NIRGraph:
    """Translate a network into a NIR graph.

    Args:
        module: a BirilNet, or any module of torch layers and snnTorch neurons. Its forward computes one
            time step (with hidden states, or states as further arguments), or loops over time itself.
        sample_input: one step of input with batch dimension, ``(batch, *shape)``; if forward loops
            over time, what it takes then, with two or more steps. A tuple for several inputs. A
            BirilNet knows its own shape and needs none.
        dt_s: width of a step in seconds; time constants are given relative to it.
        coding: how values enter the network, which receives floats; a dict by input name for several
            inputs. None: binary spikes; an OwnNet and a BirilNet have their own.

    Returns:
        A graph whose nodes are called as the torch modules (``conv1``, ``block1.lif2``), a folded
        BatchNorm joining the names (``conv1+bn1``), the loop of a recurrent layer
        ``lif1.recurrent``, with all types inferred.

    Raises:
        UnsupportedNodeError: a layer has no NIR form; all of them are listed.
        ConfigError: ``dt_s`` is not a width, ``sample_input`` not an input, or ``coding`` not one of its
            inputs.
    """
    dt_s = step_width("dt_s", dt_s)
    if isinstance(unwrapped(module), OwnNet):
        coding = unwrapped(module).coding if coding is None else coding
        module = module_of(module)
    root, samples, own = _root(module, sample_input)
    if own is not None and coding not in (None, own):
        raise ConfigError(
            f"coding is {coding}, and the network has its own, {own}. Leave coding out"
        )
    chosen = own if coding is None else coding
    root = resting_copy(root)
    dtype = next((p.dtype for p in root.parameters()), torch.float32)
    samples = [s.detach().cpu().to(dtype) for s in samples]
    if kind_of(root) is not None:
        raise UnsupportedNodeError(
            f"{type(root).__name__} is a single layer; expected a network that ends in neurons. Wrap it in "
            f"one"
        )
    arguments = list(inspect.signature(root.forward).parameters)

    def build(found: Wiring) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        return GraphBuilder(found, dt_s, arguments).build()

    try:
        wiring, samples = _wiring(root, samples)
    except ConfigError as error:
        wiring, samples = trace_counted(root, samples, error, _wiring, build)
    nodes, edges = build(wiring)
    if own is None:
        check_sizes(root, samples, wiring, build, (nodes, edges))
    nodes, edges = with_flat_inputs(*typed(*fold_batchnorm(nodes, edges)))
    _refuse_infinite(nodes)
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=edges,
        metadata={
            "producer": f"biril-nm {biril_nm.__version__}",
            "dt": float(dt_s),
            DECISION: DEFAULT_DECISION if own is None else BirilNet.decision,
        },
    )
    log.info("translated %d layers to NIR", len(nodes))
    if isinstance(root, NirNet):
        _write_facts(graph, root)
    return graph if chosen is None else with_coding(graph, chosen)


def _write_facts(graph: nir.NIRGraph, net: NirNet) -> None:
    """The coding that a graph had before it became a torch module."""
    inputs = [node for node in graph.nodes.values() if isinstance(node, nir.Input)]
    for node, facts in zip(inputs, net.input_facts()):
        node.metadata = {**(node.metadata or {}), **facts}


def _wiring(root: nn.Module, samples: list[torch.Tensor]) -> tuple[Wiring, list[torch.Tensor]]:
    """The wiring, and what showed it: a batch of one hides what mixes samples, so two are tried first."""
    if all(len(sample) == 1 for sample in samples):
        doubled = [torch.cat([sample, sample]) for sample in samples]
        try:
            found = trace_network(root, doubled)
            if not found.loops:  # else the first dimension is time
                return found, doubled
        except ConfigError:  # it takes the given shape only
            pass
    return trace_network(root, samples), samples


def _root(module: Any, sample_input: Any) -> tuple[nn.Module, list[torch.Tensor], Coding | None]:
    """The network itself, its checked samples, and the coding of a BirilNet."""
    if isinstance(module, BirilNet):
        shape = tuple(module.config.input_shape)
        return module.layers, [torch.zeros(1, *shape)], module.config.coding
    module = unwrapped(module)
    check_module(module)
    if isinstance(module, BirilNet):
        return _root(module, sample_input)
    if sample_input is None:
        raise ConfigError(
            f"sample_input of {type(module).__name__} is missing; expected one step of input, (batch, *shape)"
        )
    several = isinstance(sample_input, (tuple, list))
    samples = [s for s in (sample_input if several else [sample_input]) if s is not None]
    for sample in samples or [sample_input]:
        if not isinstance(sample, torch.Tensor) or sample.is_meta or sample.is_complex():
            raise ConfigError(
                f"sample_input holds {_shown(sample)}; expected a tensor of real numbers, (batch, *shape), "
                f"or a tuple of them, one for each input of forward. Leave the number of steps out, and give "
                f"other arguments a default"
            )
        if sample.ndim < 2 or not sample.numel():
            raise ConfigError(
                f"sample_input has shape {tuple(sample.shape)}; expected (batch, *shape), without a 0 in it"
            )
    return module, samples, None


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        return repr(value)[:60]
    place = " on meta" if getattr(value, "is_meta", False) else ""
    return f"{type(value).__name__} of shape {tuple(shape)} and type {value.dtype}{place}"


def _refuse_infinite(nodes: dict[str, Any]) -> None:
    """A network that diverged in training has weights that no file should carry."""
    findings = [
        f"'{name}': {field.name} holds values that are not finite"
        for name, node in nodes.items()
        for field in dataclasses.fields(node)
        if isinstance(value := getattr(node, field.name), np.ndarray) and value.dtype.kind == "f"
        if not np.all(np.isfinite(value))
    ]
    if findings:
        raise UnsupportedNodeError(
            bullet_list(
                "the network holds infinite values or NaN; expected finite weights. Train it again:",
                findings,
            )
        )
