"""Learn the readout of an integer network on the chip, from labels, in one stream of samples.

The last connection becomes plastic under the delta rule (:func:`biril_nm.learning.rules.delta_rule`):
the third factor y2 is the target spikes that the host sends in step with the samples, y3 the
readout's own spikes: ``dw ~ x1 (target - spike)``: no further neurons and no host in the
loop. With ``error_neurons`` two neurons per class compute the difference instead, as in EMSTDP. All
other layers stay as they are. The same graph runs on Lava.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm._moved import renamed
from biril_nm.arguments import Between, Count, Seed, checked
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
from biril_nm.hw_graph.inputs import check_arrays
from biril_nm.learning.rule import LearningRule
from biril_nm.learning.rules import delta_rule
from biril_nm.loihi import NO_SYNAPTIC_MEMORY
from biril_nm.loihi.fixed_point import prepare_weights, sign_mode_of

__all__ = [
    "TARGET",
    "DeltaConfig",
    "dense_of",
    "fresh_readout",
    "frozen",
    "labels_of",
    "plastic_readout",
    "readout_connection",
    "stream",
    "target_spikes",
]

TARGET = "target"  # name of the Input through which the host sends the target spikes
MISSING, SURPLUS = "missing", "surplus"  # error neurons: a wanted spike did not come, one too many
ERROR_WEIGHT, ERROR_VTH = 128, 64
MAX_TARGETS = 1 << 28  # values of the target's input in one stream: 1 GiB
FRESH_VTH = 1024  # 30 inputs at weights of +-35 per spike: well inside 8 bits
TAUGHT_STEPS = 3  # steps of a sample with a target at which the rule has its full rate
MAX_HALVINGS = 6  # an impulse of 64 becomes 1


@checked
@dataclass(frozen=True)
class DeltaConfig:
    """Settings of readout learning.

    Attributes:
        exp: exponent of the rule; one step more doubles the learning rate.
        halvings: of the impulses of y2 and y3, 0 to 6; each halves the learning rate. None: adapt and
            finetune take as many as make the change per sample independent of its steps, by
            :meth:`for_steps`; :func:`plastic_readout`, which does not know the steps, takes none.
        tau: of the pre-trace in steps; a few steps, because traces run on from sample to sample.
        impulse: of the pre-trace.
        quiet_steps: steps at the start of a sample without target, while v still gathers input.
        replays: a small set of samples is shown again, up to this often ...
        presentations: ... as long as not more samples than this are shown in all.
        error_neurons: two neurons per class send the error, one step later, instead of the target
            Input and the readout itself.
        validate: whether held-out samples choose the rate and the passes, and whether to learn at all
            (:mod:`biril_nm.studies.validation`); False: all passes at one rate.
    """

    exp: int = -7
    tau: float = 3
    impulse: int = 16
    quiet_steps: int = 1
    replays: int = 30
    presentations: int = 6000
    error_neurons: bool = False
    validate: bool = True
    halvings: Annotated[int, Between(0, MAX_HALVINGS)] | None = None

    def __post_init__(self) -> None:
        if self.quiet_steps < 0 or self.replays < 1 or self.presentations < 1:
            raise ConfigError(
                f"quiet_steps is {self.quiet_steps}, replays {self.replays}, presentations "
                f"{self.presentations}; expected at least 0, 1 and 1"
            )

    def for_steps(self, n_steps: int) -> DeltaConfig:
        """The settings for samples of ``n_steps`` steps: with targets in 2**k x 3 of them, k halvings."""
        if self.halvings is not None:
            return self
        taught = max(1, n_steps - self.quiet_steps)
        return replace(self, halvings=min(MAX_HALVINGS, max(0, round(log2(taught / TAUGHT_STEPS)))))

    def passes(self, n_samples: int) -> int:
        """How often each of ``n_samples`` samples is shown."""
        return max(1, min(self.replays, self.presentations // max(1, n_samples)))


@checked
def readout_connection(graph: LoihiGraph) -> str:
    """Name of the Dense connection that feeds the only output.

    Raises:
        ConfigError: several outputs, several connections into it, or another kind of connection.
    """
    nodes = set(graph.outputs.values())
    names = [name for node in nodes for name in graph.incoming(node)]
    if len(nodes) != 1 or len(names) != 1 or not isinstance(graph.nodes[names[0]], Dense):
        raise ConfigError(
            f"the readout is {', '.join(names) or 'no connection'} into "
            f"{', '.join(sorted(nodes)) or 'no output'}; expected one Dense connection into one output"
        )
    return names[0]


@checked
def plastic_readout(
    graph: LoihiGraph, config: DeltaConfig | None = None, seed: Seed = 0
) -> LoihiGraph:
    """The graph with a plastic readout and an Input for the target spikes.

    Args:
        graph: a network with one Dense readout.
        config: settings.
        seed: of the rule's random streams.

    Raises:
        ConfigError: see :func:`readout_connection`, or there is a node called "target".
    """
    config = config or DeltaConfig()
    name = readout_connection(graph)
    if TARGET in graph.nodes:
        raise ConfigError(f"the graph has a node '{TARGET}' already. Freeze it first, or rename it")
    output = graph.ends[name][1]
    rule = _slowed(delta_rule(config.exp, config.tau, config.impulse, seed=seed), config.halvings)
    plastic = replace(dense_of(graph, name), rule=rule, modulators={"y2": TARGET, "y3": output})
    nodes = {**graph.nodes, name: plastic, TARGET: Input(graph.shape_of(output))}
    edges = graph.edges
    if config.error_neurons:
        extra, wires = _error_neurons(graph, output)
        plastic = replace(plastic, modulators={"y2": MISSING, "y3": SURPLUS})
        nodes, edges = {**nodes, name: plastic, **extra}, (*edges, *wires)
    return LoihiGraph(nodes, edges, graph.metadata)


def _slowed(rule: LearningRule, halvings: int | None) -> LearningRule:
    """The rule with smaller third factors."""
    traces = {
        name: replace(trace, impulse=int(trace.impulse) >> (halvings or 0))
        if name in ("y2", "y3")
        else trace
        for name, trace in rule.traces.items()
    }
    return replace(rule, traces=traces)


def _error_neurons(
    graph: LoihiGraph, output: str
) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """Two neurons per class, without memory: target without output, and output without target.

    The target waits in a synaptic delay until the output has answered the same input step.
    """
    shape = graph.shape_of(output)
    one_to_one = np.eye(int(np.prod(shape)), dtype=np.int32) * ERROR_WEIGHT
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    for name, sign in ((MISSING, 1), (SURPLUS, -1)):
        nodes[name] = Neurons(shape, vth=ERROR_VTH, dv=NO_SYNAPTIC_MEMORY)
        for source, weight, delay in (
            (TARGET, sign * one_to_one, graph.latency[output]),
            (output, -sign * one_to_one, 0),
        ):
            link = f"{source}_{name}"
            nodes[link] = Dense(weight, sign_mode=sign_mode_of(weight), delay=delay)
            edges += [(source, link), (link, name)]
    return nodes, tuple(edges)


@checked
def fresh_readout(graph: LoihiGraph, vth: int = FRESH_VTH) -> LoihiGraph:
    """The graph with a readout that knows nothing: weights and bias 0.

    Args:
        graph: a network with one Dense readout.
        vth: its threshold in weight units.
    """
    name = readout_connection(graph)
    dense = dense_of(graph, name)
    return graph.with_node(name, weight=np.zeros_like(dense.weight), weight_exp=0).with_node(
        graph.ends[name][1], vth=vth, bias_mant=0, bias_exp=0
    )


@checked
def frozen(graph: LoihiGraph) -> LoihiGraph:
    """The graph without rules, tags, modulators and all that served modulation alone.

    Weights are truncated as a connection that does not learn truncates them (mixed: even integers).
    """
    kept = _needed(graph)
    edges = tuple(edge for edge in graph.edges if set(edge) <= kept)
    nodes: dict[str, Any] = {name: node for name, node in graph.nodes.items() if name in kept}
    for name, node in graph.plastic.items():
        weight: Any = node.weight.copy()
        if isinstance(node, Dense):
            weight = prepare_weights(weight, node.weight_bits, node.sign_mode)
        else:
            weight.data = prepare_weights(weight.data, node.weight_bits, node.sign_mode)
        nodes[name] = replace(node, weight=weight, rule=None, modulators={}, tag_t=None, tag_d=None)
    return LoihiGraph(nodes, edges, graph.metadata)


def _needed(graph: LoihiGraph) -> set[str]:
    """Nodes from which an Output can be reached; without Outputs all but modulating Inputs."""
    if not graph.outputs:
        return set(graph.nodes) - set(graph.modulator_inputs)
    kept = set(graph.outputs)
    while True:
        found = {a for a, b in graph.edges if b in kept} - kept
        if not found:
            return kept
        kept |= found


@checked
def target_spikes(
    labels: ArrayLike, n_classes: Count, n_steps: Count, quiet_steps: int = 1
) -> NDArray[np.int32]:
    """Wanted spikes of the readout: the label's neuron in every step but the first ``quiet_steps``.

    Shape:
        labels ``(batch,)`` to ``(n_steps, batch, n_classes)``.

    Raises:
        ConfigError: no step is left for the target, or a label that is not a class.
    """
    if n_classes * n_steps * max(1, np.size(labels)) > MAX_TARGETS:
        raise ConfigError(
            f"{n_steps} steps of {np.size(labels)} samples and {n_classes} classes are more than "
            f"{MAX_TARGETS} values; expected fewer. Learn from fewer samples at once"
        )
    if quiet_steps >= n_steps:
        raise ConfigError(f"{quiet_steps} quiet steps leave none of {n_steps} for the target")
    known = check_labels(labels, np.size(labels), n_classes)
    one_hot = np.eye(n_classes, dtype=np.int32)[known]
    spikes = np.repeat(one_hot[np.newaxis], n_steps, axis=0)
    spikes[:quiet_steps] = 0
    return spikes


@checked
def stream(
    graph: LoihiGraph, spikes: NDArray[Any], labels: ArrayLike, config: DeltaConfig | None = None
) -> dict[str, NDArray[Any]]:
    """Input of a graph with plastic readout: samples and target spikes by input name.

    Args:
        graph: from :func:`plastic_readout`.
        spikes: chip input ``(n_steps, batch, *shape)``.
        labels: ``(batch,)``.
        config: as given to :func:`plastic_readout`.

    Raises:
        ConfigError: spikes or labels that do not fit.
    """
    config = config or DeltaConfig()
    source = next(name for name in graph.inputs if name != TARGET)
    n_classes = int(np.prod(graph.inputs[TARGET].shape))
    spikes = check_arrays({source: graph.inputs[source]}, spikes)[source]
    known = labels_of(spikes, labels, n_classes)
    targets = target_spikes(known, n_classes, len(spikes), config.quiet_steps)
    return {
        source: spikes,
        TARGET: targets.reshape(*targets.shape[:2], *graph.inputs[TARGET].shape),
    }


def labels_of(spikes: NDArray[Any], labels: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """One checked label for each sample of ``(n_steps, batch, *shape)``."""
    shown = f"samples in spikes of shape {spikes.shape}, (n_steps, batch, *shape)"
    return check_labels(labels, spikes.shape[1], n_classes, shown)


def dense_of(graph: LoihiGraph, name: str) -> Dense:
    """The Dense connection of a name.

    Raises:
        ConfigError: it is another node.
    """
    node = graph.nodes[name]
    if not isinstance(node, Dense):
        raise ConfigError(f"connection '{name}' is {type(node).__name__}; expected a Dense")
    return node


__getattr__ = renamed(__name__, {"finetune": "biril_nm.studies.finetuning"})
