"""``check_parity``: run the same spikes on several engines and compare what they recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from biril_nm.arguments import checked
from biril_nm.coding import Coding
from biril_nm.engines import Engine, Network, RunOptions, available_engines, get_engine
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import with_input_coding
from biril_nm.hw_graph.outputs import integrators
from biril_nm.parity.agreement import MAX_RATE_DIFFERENCE, MIN_AGREEMENT, Tolerance, agreement
from biril_nm.parity.comparison import compare, compare_learning, count_integers
from biril_nm.parity.report import ParityReport
from biril_nm.recording import LEARNING_VARIABLES, Recording, check_variables

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_parity"]


@checked
def check_parity(
    graph: LoihiGraph,
    spikes: ArrayLike | Mapping[str, ArrayLike],
    against: Sequence[str] = ("sim", "lava"),
    variables: Sequence[str] = ("s", "u", "v"),
    net: nn.Module | None = None,
    min_agreement: float = MIN_AGREEMENT,
    max_rate_difference: float = MAX_RATE_DIFFERENCE,
    learn: bool = False,
    coding: Coding | None = None,
) -> ParityReport:
    """Run ``spikes`` on several engines and compare them.

    Integer engines are compared integer by integer: every s, u and v of every neuron at every step.
    torch computes in float, so its predictions and firing rates are compared. Names and shapes are
    compared before values.

    Args:
        graph: the integer network.
        spikes: chip input, integers ``(n_steps, batch, *shape)``; a dict for several inputs. With a coding
            also floats of that shape, as the torch network sees them.
        against: engines by name, at least two, of
            :func:`biril_nm.engines.available_engines`: torch, sim, lava, torch-int and those of other
            packages.
        variables: what to compare between integer engines.
        net: the torch network behind ``graph``, for engines that run it.
        min_agreement: share of samples for which torch must predict the same class.
        max_rate_difference: largest difference of mean firing rates per node.
        learn: whether plastic connections learn; if so, their weights, tags and traces are compared
            at every chip step too.
        coding: how values enter the only input, where the graph does not say.

    Raises:
        ConfigError: fewer than two engines, no integer engine, an unknown engine, or one that cannot
            run this network (torch without ``net``, or in a run that learns); a coding that
            the input does not have.
        RangeError: values that an input does not carry.
        MissingDependencyError: a package that an engine needs is not installed.
        ParityError: the engines recorded other nodes, variables or shapes.
    """
    if coding is not None:
        graph, spikes = with_input_coding(graph, coding), _messages(spikes, coding)
    network = Network(graph, net)
    engines = _usable_engines(against, network, learn)
    exact = [engine for engine in engines if engine.gives_integers(network)]
    integer = [engine.name for engine in exact]
    recorded = (*check_variables(variables), *(LEARNING_VARIABLES if learn else ()))
    found = {
        engine.name: engine.run(network, spikes, RunOptions(recorded, learn=learn))
        for engine in exact
    }
    first, *others = integer
    reference = found[first]
    mismatches = []
    for name in others:
        pair = (first, reference, name, found[name])
        mismatches += [compare(*pair, graph.timing.order), compare_learning(*pair)]
    agreements = [
        agreement(engine.name, engine.run(network, spikes), reference, graph)
        for engine in engines
        if engine not in exact
    ]
    tolerance = Tolerance(min_agreement, max_rate_difference)
    problems = [each.problem(tolerance) for each in agreements]
    n_steps, n_samples = _size(reference)
    return ParityReport(
        engines=tuple(engine.name for engine in engines),
        integer_engines=tuple(integer),
        n_steps=n_steps,
        n_samples=n_samples,
        n_compared=count_integers(reference) * len(others),
        n_spikes=dict(reference.n_spikes),
        mismatches=tuple(mismatch for mismatch in mismatches if mismatch is not None),
        agreements=tuple(agreements),
        float_problems=tuple(problem for problem in problems if problem is not None),
        variables=recorded,
        integrators=integrators(graph),
        versions=_versions(found),
    )


def _versions(found: Mapping[str, Recording]) -> dict[str, str]:
    """What each engine says of itself; the simulator has the version of this package."""
    said = {name: str(recording.meta.get("version", "")) for name, recording in found.items()}
    return {name: text for name, text in said.items() if text and name != "sim"}


def _messages(values: Any, coding: Coding) -> Any:
    """Integers as they are, floats through the coding."""
    if isinstance(values, Mapping):
        return {name: _messages(value, coding) for name, value in values.items()}
    return coding.messages(values) if np.asarray(values).dtype.kind == "f" else values


def _usable_engines(against: Sequence[str], network: Network, learn: bool) -> tuple[Engine, ...]:
    """The engines, if they can be compared and can all run the network.

    Raises:
        ConfigError: they cannot; nothing has run.
        MissingDependencyError: a package that an engine needs is not installed.
    """
    engines = tuple(get_engine(name) for name in dict.fromkeys(against))
    if len(engines) < 2 or not any(engine.gives_integers(network) for engine in engines):
        raise ConfigError(
            f"cannot compare {', '.join(against) or 'nothing'}; expected at least two of "
            f"{', '.join(available_engines())}, with sim or another integer engine among them"
        )
    for engine in engines:
        problem = engine.why_not(network, learn)
        if problem is not None:
            raise problem
    return engines


def _size(recording: Recording) -> tuple[int, int]:
    """(n_steps, batch) of a recording of all nodes."""
    node = next(iter(recording.values()))
    n_steps, batch = next(iter(node.variables().values())).shape[:2]
    return int(n_steps), int(batch)
