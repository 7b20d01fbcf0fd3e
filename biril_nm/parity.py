"""Parity: do torch, the integer simulator and Lava agree, and if not, where do they differ first?

Integer engines are compared integer by integer: every s, u and v of every neuron at every step.
torch computes in float, so it is compared by what survives quantisation: predictions and firing
rates. Names and shapes are compared before values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.coding import Coding, predictions
from biril_nm.errors import ConfigError, ParityError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import LEARNING_VARIABLES, Recording, check_variables

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ENGINES", "FloatAgreement", "Mismatch", "ParityReport", "check_parity", "compare"]

ENGINES = ("torch", "sim", "lava")
LEARNING_CAUSE_FIRST = ("x1", "x2", "y1", "y2", "y3", "d", "t", "w")
CAUSE_FIRST = ("u", "v", "s")  # within one step a wrong u causes a wrong v, that a wrong s
MIN_AGREEMENT = 0.9  # share of samples on which float and integer net predict the same class
MAX_RATE_DIFFERENCE = 0.05  # spikes per neuron and step, per node


@dataclass(frozen=True)
class Mismatch:
    """The first difference between two engines, in node time.

    Attributes:
        engines: names of both engines.
        node: Neurons node, or plastic connection.
        variable: s, u or v, or one of the connection's.
        step: step within the sample, from 1; of a plastic connection the chip step.
        sample: sample within the batch, from 0.
        neuron: flat index within the node, torch order; of a plastic connection the synapse or trace.
        values: what each engine has there.
    """

    engines: tuple[str, str]
    node: str
    variable: str
    step: int
    sample: int
    neuron: int
    values: tuple[int, int]

    def __str__(self) -> str:
        a, b = self.engines
        if self.variable in LEARNING_VARIABLES:
            return (
                f"{self.node}: {self.variable} differs first at chip step {self.step}, element "
                f"{self.neuron}: {a} {self.values[0]}, {b} {self.values[1]}"
            )
        return (
            f"{self.node}: {self.variable} differs first at step {self.step}, sample {self.sample}, "
            f"neuron {self.neuron}: {a} {self.values[0]}, {b} {self.values[1]}"
        )


@dataclass(frozen=True)
class FloatAgreement:
    """How far the float network and the integer network agree.

    Attributes:
        same_predictions: samples with the same predicted class.
        n_samples: samples compared.
        rate_difference: node -> |mean firing rate difference|, spikes per neuron and step.
        same_spikes: node -> share of (step, sample, neuron) cells with the same spike.
    """

    same_predictions: int
    n_samples: int
    rate_difference: Mapping[str, float]
    same_spikes: Mapping[str, float]

    def problem(self, min_agreement: float, max_rate_difference: float) -> str | None:
        """What is out of bounds, or None."""
        share = self.same_predictions / self.n_samples
        if share < min_agreement:
            return (
                f"torch and the integer network predict the same class for {self.same_predictions} of "
                f"{self.n_samples} samples; at least {min_agreement:.0%} are needed"
            )
        worst = max(self.rate_difference, key=lambda name: self.rate_difference[name])
        if self.rate_difference[worst] > max_rate_difference:
            return (
                f"{worst}: firing rates of torch and the integer network differ by "
                f"{self.rate_difference[worst]:.3f} spikes per step; allowed are {max_rate_difference}"
            )
        return None


@dataclass(frozen=True)
class ParityReport:
    """Outcome of :func:`check_parity`.

    Attributes:
        engines: engines that took part.
        n_steps: steps per sample.
        n_samples: samples.
        n_compared: integers compared per pair of integer engines, summed over pairs.
        n_spikes: node -> spikes, as the first integer engine counts them.
        mismatches: the first difference of each pair that differs.
        floats: agreement with torch, if it took part.
        float_problem: what is wrong with that agreement, or None.
    """

    engines: tuple[str, ...]
    n_steps: int
    n_samples: int
    n_compared: int
    n_spikes: Mapping[str, int]
    mismatches: tuple[Mismatch, ...] = ()
    floats: FloatAgreement | None = None
    float_problem: str | None = None
    variables: tuple[str, ...] = field(default=("s", "u", "v"))

    @property
    def ok(self) -> bool:
        """Whether everything that was compared agrees."""
        return not self.mismatches and self.float_problem is None

    @property
    def silent(self) -> tuple[str, ...]:
        """Nodes that never spiked: their agreement proves little."""
        return tuple(name for name, count in self.n_spikes.items() if count == 0)

    def summary(self) -> str:
        """One or a few lines for people."""
        integer = [name for name in self.engines if name != "torch"]
        lines = []
        if len(integer) > 1 and not self.mismatches:
            lines.append(
                f"{' = '.join(integer)}: {self.n_steps} steps x {self.n_samples} samples, "
                f"{self.n_compared:,} integers ({', '.join(self.variables)}) equal, "
                f"{sum(self.n_spikes.values()):,} spikes"
            )
        lines += [str(mismatch) for mismatch in self.mismatches]
        if self.floats is not None:
            worst = max(self.floats.rate_difference.values(), default=0.0)
            lines.append(
                self.float_problem
                or f"torch ~ {integer[0]}: {self.floats.same_predictions} of {self.floats.n_samples} "
                f"predictions equal, firing rates within {worst:.4f} spikes per step"
            )
        if self.silent:
            lines.append(
                f"silent nodes (nothing proven about their spikes): {', '.join(self.silent)}"
            )
        return "\n".join(lines)

    def raise_on_mismatch(self) -> ParityReport:
        """Return self if all agrees.

        Raises:
            ParityError: with the first difference of each pair.
        """
        if not self.ok:
            raise ParityError(self.summary())
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "ok": self.ok, "silent": list(self.silent)}


def check_parity(
    graph: LoihiGraph,
    spikes: ArrayLike | Mapping[str, ArrayLike],
    against: Sequence[str] = ("sim", "lava"),
    variables: Sequence[str] = ("s", "u", "v"),
    net: nn.Module | None = None,
    min_agreement: float = MIN_AGREEMENT,
    max_rate_difference: float = MAX_RATE_DIFFERENCE,
    learn: bool = False,
) -> ParityReport:
    """Run ``spikes`` through several engines and compare them.

    Args:
        graph: the integer network.
        spikes: chip input, integers ``(n_steps, batch, *shape)``; a dict for several inputs.
        against: engines, out of torch, sim, lava; at least two.
        variables: what to compare between integer engines.
        net: the torch network behind ``graph``, needed for torch.
        min_agreement: share of samples on which torch must predict the same class.
        max_rate_difference: allowed difference of mean firing rates per node.
        learn: whether plastic connections learn; then their weights, tags and traces are compared at
            every chip step too.

    Raises:
        ConfigError: fewer than two engines, an unknown one, torch without ``net``, or torch in a run
            that learns.
    """
    engines = tuple(dict.fromkeys(against))
    unknown = [name for name in engines if name not in ENGINES]
    integer = [name for name in engines if name in _RUNNERS]
    if unknown or len(engines) < 2 or not integer:
        raise ConfigError(
            f"cannot compare {', '.join(engines) or 'nothing'}; give at least two of "
            f"{', '.join(ENGINES)}, sim or lava among them"
        )
    if ("torch" in engines) != (net is not None):
        raise ConfigError("torch takes part if and only if the torch network is given as net")
    if learn and net is not None:
        raise ConfigError(
            "torch computes in float and does not learn as the chip; compare sim, lava"
        )
    recorded = (*check_variables(variables), *(LEARNING_VARIABLES if learn else ()))
    traces = {name: _RUNNERS[name](graph, spikes, recorded, learn) for name in integer}
    reference = integer[0]
    mismatches: list[Mismatch | None] = []
    for name in integer[1:]:
        pair = (reference, traces[reference], name, traces[name])
        mismatches += [compare(*pair, graph.timing.order), compare_learning(*pair)]
    n_values = _count(traces[reference])
    first = next(iter(next(iter(traces[reference].values())).variables().values()))
    floats = problem = None
    if net is not None:
        floats = _float_agreement(graph, spikes, net, traces[reference])
        problem = floats.problem(min_agreement, max_rate_difference)
    return ParityReport(
        engines=engines,
        n_steps=int(first.shape[0]),
        n_samples=int(first.shape[1]),
        n_compared=n_values * (len(integer) - 1),
        n_spikes=dict(traces[reference].n_spikes),
        mismatches=tuple(m for m in mismatches if m is not None),
        floats=floats,
        float_problem=problem,
        variables=recorded,
    )


def compare(
    name_a: str, a: Recording, name_b: str, b: Recording, order: Sequence[str]
) -> Mismatch | None:
    """First difference between two traces: earliest step, then node order, then u, v, s.

    Raises:
        ParityError: the traces have other nodes, variables or shapes.
    """
    if set(a) != set(b):
        raise ParityError(f"{name_a} recorded nodes {sorted(a)}, {name_b} {sorted(b)}")
    found: list[tuple[tuple[int, int, int], Mismatch]] = []
    for rank, node in enumerate(n for n in order if n in a):
        ours, theirs = a[node].variables(), b[node].variables()
        if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
            raise ParityError(
                f"{node}: {name_a} recorded { ({k: v.shape for k, v in ours.items()}) }, {name_b} "
                f"{ ({k: v.shape for k, v in theirs.items()}) }"
            )
        for variable in (v for v in CAUSE_FIRST if v in ours):
            where = _first_difference(ours[variable], theirs[variable])
            if where is not None:
                step, sample, neuron, x, y = where
                mismatch = Mismatch(
                    (name_a, name_b), node, variable, step + 1, sample, neuron, (x, y)
                )
                found.append(((step, rank, CAUSE_FIRST.index(variable)), mismatch))
    return min(found, key=lambda item: item[0])[1] if found else None


def compare_learning(name_a: str, a: Recording, name_b: str, b: Recording) -> Mismatch | None:
    """First difference between the plastic connections of two runs: earliest chip step first.

    Weights and tags that exist in one run only (a tag that no rule uses) are not compared.
    """
    if set(a.connections) != set(b.connections):
        raise ParityError(
            f"{name_a} recorded connections {sorted(a.connections)}, {name_b} {sorted(b.connections)}"
        )
    found: list[tuple[int, Mismatch]] = []
    for name in a.connections:
        ours, theirs = a.connections[name].variables(), b.connections[name].variables()
        for variable in (v for v in LEARNING_CAUSE_FIRST if v in ours and v in theirs):
            x, y = ours[variable], theirs[variable]
            if x.shape != y.shape:
                raise ParityError(
                    f"{name}: {variable} has shape {x.shape} in {name_a}, {y.shape} in {name_b}"
                )
            where = _first_difference(x[:, np.newaxis], y[:, np.newaxis])
            if where is not None:
                step, _, place, p, q = where
                mismatch = Mismatch((name_a, name_b), name, variable, step + 1, 0, place, (p, q))
                found.append((step, mismatch))
    return min(found, key=lambda item: item[0])[1] if found else None


def _count(trace: Recording) -> int:
    """Integers in a trace."""
    recorded = [node.variables() for node in trace.values()]
    recorded += [connection.variables() for connection in trace.connections.values()]
    return sum(array.size for variables in recorded for array in variables.values())


def _first_difference(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, int, int, int, int] | None:
    different = (a != b).reshape(a.shape[0], a.shape[1], -1)
    steps = np.flatnonzero(different.any(axis=(1, 2)))
    if steps.size == 0:
        return None
    step = int(steps[0])
    sample, neuron = (int(i[0]) for i in np.nonzero(different[step]))
    x = a[step, sample].reshape(-1)[neuron]
    y = b[step, sample].reshape(-1)[neuron]
    return step, sample, neuron, int(x), int(y)


def _run_sim(graph: LoihiGraph, spikes: Any, record: tuple[str, ...], learn: bool) -> Recording:
    from biril_nm.hardware_sim import simulate

    return simulate(graph, spikes, record=record, learn=learn)


def _run_lava(graph: LoihiGraph, spikes: Any, record: tuple[str, ...], learn: bool) -> Recording:
    from biril_nm.export.lava.backend import run_lava

    return run_lava(graph, spikes, record=record, learn=learn)


_RUNNERS: dict[str, Callable[[LoihiGraph, Any, tuple[str, ...], bool], Recording]] = {
    "sim": _run_sim,
    "lava": _run_lava,
}


def _float_agreement(
    graph: LoihiGraph, spikes: Any, net: nn.Module, trace: Recording
) -> FloatAgreement:
    from biril_nm.engines.torch_net import run_torch

    if len(graph.inputs) != 1:
        raise ConfigError("torch is compared on networks with one input only")
    ((name, _),) = graph.inputs.items()
    values = spikes[name] if isinstance(spikes, Mapping) else spikes
    told = graph.metadata.get("coding", {}).get(name)
    run = run_torch(net, values, Coding.from_dict(told) if told else None)
    shared = [node for node in trace if node in run.trace and trace[node].s is not None]
    if not shared:
        raise ConfigError(
            f"no node of the graph ({', '.join(trace)}) is called as a layer of the network "
            f"({', '.join(run.trace)}); record s and export this very network"
        )
    pairs = {node: (np.asarray(trace[node].s), np.asarray(run.trace[node].s)) for node in shared}
    for node, (ours, theirs) in pairs.items():
        if ours.shape != theirs.shape:
            raise ParityError(f"{node}: shapes {ours.shape} and {theirs.shape} (torch) differ")
    last = next(iter(graph.outputs.values()), shared[-1])
    spikes_out = np.asarray(trace[last].s)
    mine = predictions(
        spikes_out.reshape(*spikes_out.shape[:2], -1),
        trace.v_last[last].reshape(spikes_out.shape[1], -1),
        np.asarray(graph.neurons[last].vth).reshape(-1),
    )
    other = run.scores.reshape(len(mine), -1).argmax(axis=-1)
    return FloatAgreement(
        same_predictions=int((mine == other).sum()),
        n_samples=len(mine),
        rate_difference={n: abs(float(a.mean()) - float(b.mean())) for n, (a, b) in pairs.items()},
        same_spikes={n: float((a == b).mean()) for n, (a, b) in pairs.items()},
    )
