"""Networks of one or two hidden layers that learn from nothing, with what teaches them on the chip.

An image enters as regular spikes. Its label and a line that marks the teaching steps come from the host;
all else are neurons and synapses. Two error neurons per class, without memory, fire when a wanted spike is
missing and when an output spike is one too many. They teach the readout, and through fixed random synapses
B drive two feedback neurons per hidden neuron, ``up`` by +B and ``down`` by -B, which teach hidden layers:

    readout: dw = 2^-7 u x1 (y2 - y3)         y2, y3: filtered spikes of the error neurons
    hidden:  dw = 2^-7 u x1 y1 (y2 - y3)      y1: the neuron's own spikes; y2, y3: of up and down

u is one learning phase per sample. Form of the hidden rule: direct feedback alignment (A. Nokland, NeurIPS
2016), gated by the neuron's own activity. Under ``label`` the label drives the feedback neurons instead of
the error (direct random target projection: Frenkel, Lefebvre and Bol, Frontiers in Neuroscience 15, 2021),
with the gate y1 (127 - y1), which closes for neurons that always fire.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from biril_nm.arguments import MAX_SEED, Between, Seed, checked, unknown_name
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.metadata import PER_CONNECTION, ROUNDINGS
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.loihi import NO_SYNAPTIC_MEMORY, TRACE_MAX
from biril_nm.loihi.fixed_point import sign_mode_of
from biril_nm.onchip.timing import check_teaching

__all__ = ["LABEL", "METHODS", "WINDOW", "DeepConfig", "Halvings", "dfa_network", "halved_impulse"]

# How hidden layers learn on the chip: from the error, from the label, or not.
METHODS = ("dfa", "label", "untrained")
Halvings = Annotated[int, Between(0, MAX_SEED)]  # a count that may be 0
LABEL, WINDOW = "label", "teaching"  # inputs of the host: one line per class, and one
MISSING, SURPLUS, UP, DOWN = "missing", "surplus", "up", "down"
MAX_HIDDEN = 2
EXP = -7  # of both rules, the smallest step
ERROR_WEIGHT = 128
MISSING_VTH, SURPLUS_VTH = ERROR_WEIGHT // 2, ERROR_WEIGHT + ERROR_WEIGHT // 2
FEEDBACK_VTH, FEEDBACK_SPREAD = 127, 126
LABEL_GATE = 24  # impulse of y1 under label projection, so that y1 (127 - y1) sees the rate


@checked
@dataclass(frozen=True)
class DeepConfig:
    """Settings of :func:`dfa_network`; the defaults learn MNIST with 300 hidden neurons.

    Attributes:
        method: how hidden layers learn: "dfa" from the error, "label" from the label, "untrained" not.
        n_steps: steps of a sample.
        decimation: a learning phase every ``2**decimation`` steps, one per sample.
        window: first teaching step, and the one after the last; None: from a quarter of the sample until
            the feedback of a spike just reaches the phase.
        spread: initial hidden weights are uniform in ``-spread..spread``. Rounding is shared by all
            synapses of a connection, so that large weights suffer least from it.
        vth: threshold of each hidden layer in weight units.
        readout_vth: threshold of the readout, whose weights start at 0.
        tau: time constant of all traces, in steps.
        x_impulse: of the pre-traces.
        error_impulse: of y2 and y3 of the readout.
        feedback_impulse: of y2 and y3 of hidden layers.
        rounding: "connection", one random number of a connection in a phase, as Lava has it; or "synapse",
            one of each synapse, which only the simulator does, no chip.
    """

    method: str = "dfa"
    n_steps: int = 16
    decimation: int = 4
    window: tuple[int, int] | None = None
    spread: int = 254
    vth: tuple[int, ...] = (1024, 1024)
    readout_vth: int = 512
    tau: float = 5
    x_impulse: int = 8
    error_impulse: int = 24
    feedback_impulse: int = 24
    rounding: str = PER_CONNECTION

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(unknown_name("method", self.method, METHODS))
        if self.rounding not in ROUNDINGS:
            raise ConfigError(unknown_name("rounding", self.rounding, ROUNDINGS))
        if len(self.vth) != MAX_HIDDEN:
            raise ConfigError(
                f"vth is {self.vth}; expected {MAX_HIDDEN} thresholds, one per hidden layer that a network "
                f"may have"
            )
        if min(*self.vth, self.readout_vth) < 1:
            raise ConfigError(
                f"vth is {self.vth} and readout_vth {self.readout_vth}; expected thresholds of at "
                f"least 1"
            )
        if not 0 < self.spread < 256:
            raise ConfigError(f"spread is {self.spread}; expected 1 to 255, the weights of 8 bits")

    def teaching_steps(self, n_hidden: int) -> tuple[int, int]:
        """First teaching step and the one after the last, for a number of hidden layers.

        An output spike in answer to input step t is fed back at chip step ``t + n_hidden + 3``.
        """
        if self.window is not None:
            return self.window
        late = n_hidden + (2 if self.method == "untrained" else 3)
        return self.n_steps // 4, self.n_steps - late

    def rule(self, hidden: bool, seed: int = 0) -> LearningRule:
        """The rule of the readout or of a hidden layer."""
        gate: tuple[str, ...] = ()
        impulse, sign = self.error_impulse, 1
        traces = {"x1": Trace(self.x_impulse, self.tau)}
        if hidden:
            label = self.method == "label"
            gate, impulse = ("y1",), self.feedback_impulse
            traces["y1"] = Trace(LABEL_GATE if label else TRACE_MAX, self.tau)
            if label:  # the chip has y1 - 127, whose sign is in the products
                gate, sign = ("y1", f"(y1-{TRACE_MAX})"), -1
        third = Trace(impulse, self.tau)
        return LearningRule(
            name=self.method if hidden else "readout",
            dw=(
                Term(sign, EXP, ("u", "x1", *gate, "y2")),
                Term(-sign, EXP, ("u", "x1", *gate, "y3")),
            ),
            traces={**traces, "y2": third, "y3": third},
            decimation=self.decimation,
            seed=seed,
            three_factor=True,
        )


@checked
def halved_impulse(trace: Trace, halvings: Halvings) -> int:
    """``impulse >> halvings``, but no less than what is 1 one step later, ``floor(decay * impulse)``.

    A trace whose own impulse is less keeps it.
    """
    base = int(trace.impulse)
    least = (i for i in range(1, base + 1) if math.floor(trace.decay * i))
    return max(next(least, base), base >> halvings)


@checked
def dfa_network(
    sizes: Sequence[int],
    config: DeepConfig | None = None,
    seed: Seed = 0,
    input_shape: Sequence[int] | None = None,
) -> LoihiGraph:
    """A network that learns deep on the chip: layers, error and feedback neurons, delays and rules.

    Inputs are ``input``, ``label`` (one line per class) and ``teaching`` (one line);
    :func:`biril_nm.onchip.lessons` makes what they carry. Layers are ``hidden1``, ``hidden2`` and
    ``out``, their connections ``fc1``, ``fc2``, ``fc3``.

    Args:
        sizes: neurons of each layer, as (784, 300, 10): inputs, one or two hidden layers, classes.
        config: settings.
        seed: of initial weights, feedback weights and random streams.
        input_shape: shape of the input, if it is not ``(sizes[0],)``.

    Raises:
        ConfigError: sizes of another form; or a teaching window, period or impulse with which the network
            could not learn, all of them listed.
    """
    config = config or DeepConfig()
    _check_sizes(sizes, input_shape)
    n_hidden = len(sizes) - 2
    build = _Build(config, tuple(sizes), np.random.default_rng([seed, 0]), seed)
    build.nodes["input"] = Input(tuple(input_shape or sizes[:1]))
    build.nodes[LABEL], build.nodes[WINDOW] = Input((sizes[-1],)), Input((1,))
    for layer in range(1, n_hidden + 2):
        build.add_layer(layer)
    build.nodes["output"] = Output()
    build.edges.append(("out", "output"))
    build.add_errors()
    if config.method != "untrained":
        for layer in range(1, n_hidden + 1):
            build.add_feedback(layer)
    coding = Coding("regular", config.n_steps).to_dict()
    metadata: dict[str, Any] = {"coding": {"input": coding}, "decision": "count"}
    if config.rounding != PER_CONNECTION:
        metadata["rounding"] = config.rounding
    graph = LoihiGraph(build.nodes, tuple(build.edges), metadata)
    check_teaching(graph, config.n_steps, config.teaching_steps(n_hidden))
    return graph


def _check_sizes(sizes: Sequence[int], input_shape: Sequence[int] | None) -> None:
    if not 3 <= len(sizes) <= MAX_HIDDEN + 2 or min(sizes) < 1 or sizes[-1] < 2:
        raise ConfigError(
            f"sizes are {tuple(sizes)}; expected inputs, one or two hidden layers and two classes or more, "
            f"such as (784, 300, 10)"
        )
    if input_shape is not None and int(np.prod(input_shape)) != sizes[0]:
        raise ConfigError(
            f"input_shape is {tuple(input_shape)}; expected {sizes[0]} elements, the first of sizes"
        )


class _Build:
    """Nodes and edges of the network as they are added."""

    def __init__(
        self, config: DeepConfig, sizes: tuple[int, ...], random: np.random.Generator, seed: int
    ) -> None:
        self._config, self._sizes, self._random, self._seed = config, sizes, random, seed
        self._n_hidden = len(sizes) - 2
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def _name(self, layer: int) -> str:
        if layer == 0:
            return "input"
        return "out" if layer > self._n_hidden else f"hidden{layer}"

    def _connect(self, source: str, target: str, weight: Any, delay: int = 0) -> None:
        """A fixed connection."""
        name = f"{source}_{target}"
        self.nodes[name] = Dense(weight, sign_mode=sign_mode_of(weight), delay=delay)
        self.edges += [(source, name), (name, target)]

    def add_layer(self, layer: int) -> None:
        """Integrate-and-fire neurons with hard reset, and the connection that leads to them."""
        config, hidden = self._config, layer <= self._n_hidden
        name, source, target = f"fc{layer}", self._name(layer - 1), self._name(layer)
        n_pre, n_post = self._sizes[layer - 1], self._sizes[layer]
        weight = np.zeros((n_post, n_pre), np.int32)
        if hidden:
            half = config.spread // 2  # even weights, as the chip takes them at first
            weight = 2 * self._random.integers(-half, half + 1, (n_post, n_pre)).astype(np.int32)
        vth = config.vth[layer - 1] if hidden else config.readout_vth
        self.nodes[target] = Neurons((n_post,), vth=vth, du=NO_SYNAPTIC_MEMORY, dv=0)
        rule, modulators = None, {}
        if not hidden:
            rule, modulators = config.rule(False, self._seed), {"y2": MISSING, "y3": SURPLUS}
        elif config.method != "untrained":
            rule = config.rule(True, self._seed + 4 * layer)
            modulators = {"y1": target, "y2": f"{UP}{layer}", "y3": f"{DOWN}{layer}"}
        self.nodes[name] = Dense(weight, rule=rule, modulators=modulators)
        self.edges += [(source, name), (name, target)]

    def add_errors(self) -> None:
        """Two neurons without memory per class: target and no spike; spike, teaching and no target."""
        classes, late = self._sizes[-1], self._n_hidden + 1  # the host's lines wait for the output
        each = np.eye(classes, dtype=np.int32) * ERROR_WEIGHT
        all_ = np.full((classes, 1), ERROR_WEIGHT, np.int32)
        for name, vth in ((MISSING, MISSING_VTH), (SURPLUS, SURPLUS_VTH)):
            forget = NO_SYNAPTIC_MEMORY
            self.nodes[name] = Neurons((classes,), vth=vth, du=forget, dv=forget)
        self._connect(LABEL, MISSING, each, late)
        self._connect("out", MISSING, -each)
        self._connect("out", SURPLUS, each)
        self._connect(WINDOW, SURPLUS, all_, late)
        self._connect(LABEL, SURPLUS, -each, late)

    def add_feedback(self, layer: int) -> None:
        """Two integrate-and-fire neurons per hidden neuron, driven through fixed random weights."""
        n, classes = self._sizes[layer], self._sizes[-1]
        half = FEEDBACK_SPREAD // 2
        b = 2 * self._random.integers(-half, half + 1, (n, classes)).astype(np.int32)
        for name, weight in ((f"{UP}{layer}", b), (f"{DOWN}{layer}", -b)):
            self.nodes[name] = Neurons((n,), vth=FEEDBACK_VTH, du=NO_SYNAPTIC_MEMORY, dv=0)
            if self._config.method == "label":
                self._connect(LABEL, name, weight, self._n_hidden + 2)
            else:
                self._connect(MISSING, name, weight)
                self._connect(SURPLUS, name, -weight)
