"""Accuracy on samples of one's own: spikes as the chip receives them, or values that a coding takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import MAX_SEED, Count, Seed, checked
from biril_nm.coding import MAX_STEPS, Coding
from biril_nm.data.labels import check_labels
from biril_nm.engines.registry import IntegerNet
from biril_nm.errors import BirilError, ConfigError
from biril_nm.evaluation.accuracy import GraphEvaluation, evaluate_graph
from biril_nm.hw_graph import Input, LoihiGraph
from biril_nm.hw_graph.inputs import driving_inputs, input_coding, single_input

if TYPE_CHECKING:
    from torch import nn

__all__ = ["accuracy", "as_array", "as_samples", "evaluate_net", "message_coding"]


@checked
def accuracy(
    network: LoihiGraph | nn.Module,
    spikes: ArrayLike,
    labels: ArrayLike,
    backend: str = "sim",
    coding: Coding | None = None,
    decision: str | None = None,
    batch_size: Count = 250,
    seed: Seed = 0,
) -> float:
    """Share of right predictions, 0..1, of an integer network or a torch network.

    Args:
        network: a LoihiGraph, or a torch network of snnTorch neurons as
            :func:`biril_nm.export.to_nir` takes it.
        spikes: samples as the chip receives them, integers ``(n_steps, n, *shape)``; with a coding also
            floats of that shape, or one value for all steps, ``(n, *shape)``.
        labels: classes ``(n,)``.
        backend: engine of a LoihiGraph; torch networks run in torch.
        coding: how values enter the network, where it does not say; None: binary spikes.
        decision: which class wins; None: as the network says, a module by count.
        batch_size: samples per run.
        seed: of rate coding; batch i uses ``seed + i``.

    Raises:
        ConfigError: labels or spikes that do not fit the network.
        RangeError: values that its input does not carry.
    """
    if isinstance(network, IntegerNet):
        network = cast(Any, network).graph()
    if not isinstance(network, LoihiGraph):
        return evaluate_net(network, spikes, labels, coding, decision, batch_size, seed).accuracy
    graph = network if decision is None else network.with_metadata(decision=decision)
    values, chosen = as_samples(graph, spikes, coding)
    return evaluate_graph(graph, values, labels, chosen, backend, batch_size, seed).accuracy


def evaluate_net(
    net: nn.Module,
    spikes: ArrayLike,
    labels: ArrayLike,
    coding: Coding | None = None,
    decision: str | None = None,
    batch_size: Count = 250,
    seed: Seed = 0,
) -> GraphEvaluation:
    """As :func:`accuracy` for a torch network, with its firing rates.

    Raises:
        ConfigError: labels or spikes that do not fit the network.
    """
    values = as_array(spikes)
    chosen, shape = _known(net, coding)
    steps = values.ndim - 1 != len(shape) if shape is not None else True
    n_samples = values.shape[1 if steps else 0] if values.ndim > steps else 0
    known = check_labels(labels, n_samples, samples=f"samples in spikes of shape {values.shape}")
    if not n_samples:
        raise ConfigError(
            f"spikes have shape {values.shape}; expected samples (n_steps, n, *shape)"
        )
    right, seconds, counts = 0, 0.0, dict[str, list[float]]()
    for index, start in enumerate(range(0, n_samples, batch_size)):
        part = slice(start, start + batch_size)
        message = _messages(chosen, values, part, steps, (seed + index) & MAX_SEED)
        began = time.perf_counter()
        scores, rates = _run(net, message, chosen, decision)
        seconds += time.perf_counter() - began
        check_labels(known[part], len(scores), scores.shape[1])
        right += int((scores.argmax(axis=-1) == known[part]).sum())
        for name, rate in rates.items():
            counts.setdefault(name, []).append(rate * len(scores))
    rates = {name: sum(found) / n_samples for name, found in counts.items()}
    return GraphEvaluation(right / n_samples, n_samples, rates, seconds)


def _run(
    net: Any, message: NDArray[Any], coding: Coding, decision: str | None
) -> tuple[NDArray[Any], dict[str, float]]:
    """Scores of each class, and spikes per neuron and step."""
    from biril_nm.engines.torch_net import run_torch

    try:
        recording = run_torch(net, message, coding, decision)
    except BirilError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:  # of the user's forward
        raise ConfigError(
            f"the forward of {type(net).__name__} failed on spikes of shape {message.shape}: {error}. Give "
            f"(n_steps, n, *shape), as the network takes them"
        ) from error
    rates = {name: float(np.mean(np.asarray(node.s))) for name, node in recording.nodes.items()}
    scores = np.asarray(recording.scores)
    return scores.reshape(len(scores), -1), rates


def _known(net: Any, coding: Coding | None) -> tuple[Coding, tuple[int, ...] | None]:
    """Coding of a torch network, and shape of its input where it knows it."""
    from biril_nm.models import BirilNet, OwnNet
    from biril_nm.models.wrappers import unwrapped

    inner = unwrapped(net)
    if isinstance(inner, BirilNet):
        if coding not in (None, inner.coding):
            raise ConfigError(
                f"coding is {coding}, and the network has its own, {inner.coding}. Leave coding out"
            )
        return inner.coding, tuple(inner.config.input_shape)
    if isinstance(inner, OwnNet):
        return coding or inner.coding, inner.input_shape
    return coding or Coding("spikes", 1), None


def _messages(
    coding: Coding, values: NDArray[Any], part: slice, steps: bool, seed: int
) -> NDArray[Any]:
    """Integers of some samples, ``(n_steps, batch, *shape)``."""
    if steps:
        return coding.messages(values[:, part])
    return coding.encode(coding.samples(values, part), seed)


def as_array(spikes: Any) -> NDArray[Any]:
    """Spikes as an array; tensors come to the CPU, maps of files stay maps."""
    if hasattr(spikes, "detach"):
        spikes = spikes.detach().cpu()
    return np.asarray(spikes)


def as_samples(
    graph: LoihiGraph, spikes: Any, coding: Coding | None = None
) -> tuple[NDArray[Any], Coding]:
    """Samples for the only input of a graph, and the coding that takes them.

    Args:
        graph: the network.
        spikes: integers of each step; under a coding also floats of each step, or one value for all steps.
        coding: how values enter, where the graph does not say.

    Raises:
        ConfigError: several inputs, or values of another shape.
    """
    values, name = as_array(spikes), single_input(graph)
    node, known = driving_inputs(graph)[name], coding or input_coding(graph, name)
    steps = values.ndim == 2 + len(node.shape)
    if known is None or (steps and (values.dtype.kind in "biu" or known.has_steps(values))):
        return values, message_coding(node, len(values) if values.ndim else 1)
    if values.shape[steps + 1 :] != node.shape:
        raise ConfigError(
            f"spikes have shape {values.shape}; input '{name}' expects (n_steps, n, "
            f"{', '.join(map(str, node.shape))})"
        )
    if steps:
        return known.messages(values), message_coding(node, len(values))
    return values, known


def message_coding(node: Input, n_steps: int) -> Coding:
    """The coding whose values are the integers that an input receives at each step."""
    kind = "signed" if node.signed else "counts" if node.message_bits else "spikes"
    return Coding(kind, min(max(n_steps, 1), MAX_STEPS), node.message_bits)
