"""The learning window of a rule, measured on the integer simulator: weight change over spike lag.

One post-neuron, one synapse per lag: each pre-neuron spikes once, the post-neuron (or the third
factor) once, and what the weights did is read. Weights are rounded stochastically; the mean over runs
that begin at different steps of the random streams shows the change below one weight unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Between, checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rule import LearningRule
from biril_nm.loihi import TRACE_BITS, SignMode

__all__ = ["Protocol", "measure_window"]

STRIDE = 37  # steps between runs: all synapses round by one stream; runs must not overlap
# One driving spike fires the target; spikes over the plastic connection never do.
WAKE_WEIGHT, WAKE_EXP, VTH = 254, 6, 8000


@checked
@dataclass(frozen=True)
class Protocol:
    """What happens in one run.

    Attributes:
        weight: of all synapses at the start.
        sign_mode: of the connection.
        third: values of third factors y2 and y3 when they are delivered, 0..127 each.
        third_delay: steps from the later spike of a pair to the third factors; None: they come with the
            post spike.
        settle: silent steps after the last event.
    """

    weight: int = 128
    sign_mode: SignMode = SignMode.EXCITATORY
    third: tuple[int, int] = (0, 0)
    third_delay: int | None = None
    settle: int = 2


@checked
def measure_window(
    rule: LearningRule,
    lags: Sequence[Annotated[int, Between(-1024, 1024)]],
    protocol: Protocol | None = None,
    repeats: Annotated[int, Between(1, 1 << 16)] = 32,
) -> NDArray[np.float64]:
    """Mean weight change at each lag ``t_post - t_pre`` in steps (pre before post is positive).

    Args:
        rule: any rule; of a three-factor rule y1 is the post-neuron, y2 and y3 come from outside.
        lags: whole numbers.
        protocol: starting weight and third factors.
        repeats: runs to average over, each at another place of the random streams.

    Shape:
        ``(len(lags),)``, in weight units.

    Raises:
        ConfigError: no lags or no repeats.
    """
    how = protocol or Protocol()
    if not len(lags) or repeats < 1:
        raise ConfigError(
            f"there are {len(lags)} lags and {repeats} repeats; expected at least 1 of each"
        )
    if how.third_delay is not None and len(lags) > 1:  # the third factor comes once: one lag a run
        each = [measure_window(rule, [lag], how, repeats) for lag in lags]
        return np.concatenate(each)
    graph = _graph(rule, len(lags), how)
    total = np.zeros(len(lags))
    for index in range(repeats):
        events = _events(graph, lags, index * STRIDE, how)
        learned = simulate(graph, events, (), learn=True).graph
        if learned is not None:
            total += _weights(learned) - how.weight
    return np.asarray(total / repeats)


def _graph(rule: LearningRule, n_lags: int, how: Protocol) -> LoihiGraph:
    modulators = {}
    nodes: dict[str, Any] = {
        "pre": Input((n_lags,)),
        "drive": Input((1,)),
        "wake": Dense(
            np.array([[WAKE_WEIGHT]]), weight_exp=WAKE_EXP, sign_mode=SignMode.EXCITATORY
        ),
        "post": Neurons((1,), vth=VTH, dv=4095),
        "output": Output(),
    }
    for name in rule.third_factors:
        modulators[name] = "post" if name == "y1" else name
        if name != "y1":
            nodes[name] = Input((1,), 0 if name in rule.traces else TRACE_BITS)
    weights = np.full((1, n_lags), how.weight)
    nodes["plastic"] = Dense(weights, sign_mode=how.sign_mode, rule=rule, modulators=modulators)
    edges = (
        ("pre", "plastic"),
        ("plastic", "post"),
        ("drive", "wake"),
        ("wake", "post"),
        ("post", "output"),
    )
    return LoihiGraph(nodes, edges)


def _weights(graph: LoihiGraph) -> NDArray[np.float64]:
    return np.asarray(graph.plastic["plastic"].weight[0], dtype=np.float64)


def _events(
    graph: LoihiGraph, lags: Sequence[int], start: int, how: Protocol
) -> dict[str, NDArray[np.int32]]:
    """Spikes by input. The post-neuron answers its drive one step later, at input step ``middle``."""
    middle = start + max(0, *lags) + 2
    late = middle + max(0, *(-lag for lag in lags)) + (how.third_delay or 0)
    n_steps = late + how.settle + 1
    events = {
        name: np.zeros((n_steps, 1, *node.shape), dtype=np.int32)
        for name, node in graph.inputs.items()
    }
    for index, lag in enumerate(lags):
        events["pre"][middle - lag, 0, index] = 1
    events["drive"][middle - 1] = 1
    for name, value in zip(("y2", "y3"), how.third):
        if name in events and value:
            # step t of a modulator belongs to the post-neuron's answer to input step t, one later
            when = late - 1 if how.third_delay is not None else middle - 1
            events[name][when] = value
    return events
