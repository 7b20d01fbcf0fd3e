"""torch modules to NIR: tracing by nirtorch, our own map of layers, shapes from a sample input.

NIR has no reset kind, step width or input coding. They travel as metadata that survives
``nir.write`` and ``nir.read``:

=============  ==========================================================================
graph          ``producer``, ``dt`` (s)
Input node     ``coding`` (direct, rate, spikes), ``n_steps``, ``message_bits``, ``scale``
neuron node    ``reset`` (zero, subtract, none), ``reset_delay``, ``dt`` (s); IF nodes also
               ``if_integration = per_step``: v grows by r x per step, whatever dt is
=============  ==========================================================================
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import nir
import nirtorch
import numpy as np
import torch
from nirtorch.torch_tracer import NIRTorchTracer
from torch import nn

import biril_nm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.passes.fold_batchnorm import fold_batchnorm
from biril_nm.export.torch_layers import LAYER_MAP, VANISHING
from biril_nm.export.torch_neurons import NEURON_MAP
from biril_nm.models import BirilNet

__all__ = ["to_nir"]

log = logging.getLogger(__name__)

Shape = tuple[int, ...]
Nodes = dict[str, nir.NIRNode]
Edges = list[tuple[str, str]]


def to_nir(
    module: nn.Module, sample_input: torch.Tensor | None = None, dt_s: float = 1e-4
) -> nir.NIRGraph:
    """Translate a network into a NIR graph.

    Args:
        module: a BirilNet, or any module of torch layers and snnTorch neurons whose forward
            computes one time step.
        sample_input: one step of input with batch dimension, ``(batch, *shape)``; a BirilNet knows
            its own shape and needs none.
        dt_s: width of a step in seconds; time constants are given relative to it.

    Returns:
        A graph whose nodes are called as the torch modules (``conv1``, ``block1.lif2``), a folded
        BatchNorm joining the names (``conv1+bn1``), with all types inferred.

    Raises:
        UnsupportedNodeError: a layer has no NIR form; all of them are listed.
        ConfigError: ``dt_s`` or ``sample_input`` make no sense.
    """
    if not dt_s > 0:
        raise ConfigError(f"dt_s is {dt_s}; the width of a step must be above 0 s")
    root, sample, coding = _root(module, sample_input)
    root = copy.deepcopy(root).cpu().eval()
    traced, targets = _trace(root)
    dtype = next((p.dtype for p in root.parameters()), torch.float32)
    shapes = _record_shapes(root, sample.detach().cpu().to(dtype))
    nodes = _translate(root, targets, shapes, dt_s)
    edges = _edges(traced, targets)
    nodes, edges = _name_ends(nodes, edges, tuple(sample.shape[1:]), coding)
    nodes, edges = _drop_vanishing(nodes, edges)
    nodes, edges = fold_batchnorm(nodes, edges)
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=edges,
        metadata={"producer": f"biril-nm {biril_nm.__version__}", "dt": float(dt_s)},
    )
    log.info("translated %d layers to NIR", len(nodes))
    return graph


def _root(
    module: nn.Module, sample_input: torch.Tensor | None
) -> tuple[nn.Module, torch.Tensor, Coding | None]:
    if isinstance(module, BirilNet):
        shape = tuple(module.config.input_shape)
        return module.layers, torch.zeros(1, *shape), module.config.coding
    if sample_input is None:
        raise ConfigError(
            f"{type(module).__name__} needs a sample_input: one step of input, (batch, *shape)"
        )
    if sample_input.ndim < 2:
        raise ConfigError(
            f"sample_input has shape {tuple(sample_input.shape)}; needed is (batch, *shape)"
        )
    return module, sample_input, None


def _trace(root: nn.Module) -> tuple[torch.fx.Graph, dict[str, str]]:
    """The traced graph and node name -> module path, every layer being known and used once."""
    known = (*LAYER_MAP, *NEURON_MAP, *VANISHING)
    if isinstance(root, known):
        raise UnsupportedNodeError(
            f"{type(root).__name__} is a single layer; wrap it in a network that ends in neurons"
        )
    try:
        graph = NIRTorchTracer(known).trace(root)
    except torch.fx.proxy.TraceError as error:
        raise UnsupportedNodeError(
            f"the forward of {type(root).__name__} cannot be traced ({error}). It must compute one "
            f"time step without branching on values: use neurons with init_hidden=True and keep the "
            f"loop over time outside"
        ) from error
    targets = {n.name: str(n.target) for n in graph.nodes if n.op == "call_module"}
    findings = []
    for path in sorted(set(targets.values())):
        kind = type(root.get_submodule(path))
        uses = list(targets.values()).count(path)
        if kind not in known:
            findings.append(f"layer '{path}' ({kind.__module__}.{kind.__qualname__}) is unknown")
        if uses > 1 and kind not in VANISHING:
            findings.append(f"layer '{path}' is used {uses} times; give each use its own module")
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and "add" not in str(node.target):
            findings.append(f"operation '{node.target}' is no layer; only additions are allowed")
    if findings:
        supported = ", ".join(sorted(kind.__name__ for kind in known))
        raise UnsupportedNodeError(
            bullet_list("the network cannot be expressed in NIR:", findings)
            + f"\nSupported layers: {supported}"
        )
    return graph, targets


def _record_shapes(root: nn.Module, sample: torch.Tensor) -> dict[str, tuple[Shape, Shape]]:
    """Module path -> (input shape, output shape), without the batch dimension."""
    shapes: dict[str, tuple[Shape, Shape]] = {}

    def hook(path: str) -> Callable[..., None]:
        def record(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            shapes[path] = (tuple(args[0].shape[1:]), tuple(first.shape[1:]))

        return record

    handles = [
        layer.register_forward_hook(hook(path))
        for path, layer in root.named_modules()
        if type(layer) in LAYER_MAP or type(layer) in NEURON_MAP
    ]
    try:
        with torch.no_grad():
            root(sample)
    except RuntimeError as error:
        raise ConfigError(
            f"the network does not accept a sample_input of shape {tuple(sample.shape)}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _translate(
    root: nn.Module,
    targets: dict[str, str],
    shapes: dict[str, tuple[Shape, Shape]],
    dt_s: float,
) -> Nodes:
    paths = {id(layer): path for path, layer in root.named_modules()}

    def layer_node(layer: nn.Module) -> nir.NIRNode:
        path = paths[id(layer)]
        return LAYER_MAP[type(layer)](layer, path, shapes[path][0])

    def neuron_node(layer: nn.Module) -> nir.NIRNode:
        path = paths[id(layer)]
        return NEURON_MAP[type(layer)](layer, path, shapes[path][1], dt_s)

    def vanishing_node(_layer: nn.Module) -> nir.NIRNode:
        return nir.Scale(scale=np.ones(1), metadata={"vanishes": 1})

    module_map: dict[type, Callable[[Any], nir.NIRNode]] = {
        **dict.fromkeys(LAYER_MAP, layer_node),
        **dict.fromkeys(NEURON_MAP, neuron_node),
        **dict.fromkeys(VANISHING, vanishing_node),
    }
    try:
        graph = nirtorch.torch_to_nir(root, module_map, default_dict={}, type_check=False)
    except ValueError as error:
        raise UnsupportedNodeError(f"the network cannot be traced to NIR: {error}") from error
    return {targets.get(name, name): node for name, node in graph.nodes.items()}


def _edges(graph: torch.fx.Graph, targets: dict[str, str]) -> Edges:
    """Edges between layers; additions dissolve, since several edges into one node add up."""

    def sources(node: torch.fx.Node) -> list[str]:
        if node.op in ("call_function", "call_method"):
            return [name for operand in node.all_input_nodes for name in sources(operand)]
        return [targets.get(node.name, node.name)]

    edges = []
    for node in graph.nodes:
        if node.op in ("call_module", "output"):
            name = targets.get(node.name, node.name)
            edges += [(a, name) for operand in node.all_input_nodes for a in sources(operand)]
    twice = sorted({f"{a} -> {b}" for a, b in edges if edges.count((a, b)) > 1})
    if twice:
        raise UnsupportedNodeError(
            f"a signal is added to itself ({', '.join(twice)}), which NIR edges cannot say; scale the "
            f"weights instead"
        )
    return edges


def _name_ends(
    nodes: Nodes, edges: Edges, in_shape: Shape, coding: Coding | None
) -> tuple[Nodes, Edges]:
    """Call the ends ``input`` and ``output``, give them types, store the coding."""
    inputs = [name for name, node in nodes.items() if isinstance(node, nir.Input)]
    outputs = [name for name, node in nodes.items() if isinstance(node, nir.Output)]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedNodeError(
            f"the network has {len(inputs)} inputs and {len(outputs)} outputs; one of each is supported"
        )
    names = {inputs[0]: "input", outputs[0]: "output"}
    metadata: dict[str, Any] = {}
    if coding is not None:
        metadata = {k: v for k, v in coding.to_dict().items() if k != "kind"}
        metadata.update(coding=coding.kind, scale=coding.scale)
    last = [nodes[a] for a, b in edges if b == outputs[0]]
    shape = np.array(next(iter(last[0].output_type.values())))
    body = {name: node for name, node in nodes.items() if name not in names}
    ends: Nodes = {
        "input": nir.Input(input_type={"input": np.array(in_shape)}, metadata=metadata),
        **body,
        "output": nir.Output(output_type={"output": shape}),
    }
    return ends, [(names.get(a, a), names.get(b, b)) for a, b in edges]


def _drop_vanishing(nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
    """Bridge Dropout and Identity."""
    for name in [n for n, node in nodes.items() if (node.metadata or {}).get("vanishes")]:
        before = [a for a, b in edges if b == name]
        after = [b for a, b in edges if a == name]
        edges = [edge for edge in edges if name not in edge]
        edges += [(a, b) for a in before for b in after]
    kept = {n: node for n, node in nodes.items() if not (node.metadata or {}).get("vanishes")}
    return kept, edges
