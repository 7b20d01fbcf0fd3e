"""What makes a network that learns from the host's lessons learn nothing, found before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError, bullet_list
from biril_nm.hw_graph import LoihiGraph
from biril_nm.learning.rule import LearningRule

__all__ = ["check_teaching"]


@checked
def check_teaching(graph: LoihiGraph, n_steps: int, window: tuple[int, int]) -> None:
    """Hold learning phases, teaching window and modulators of a network against each other.

    Args:
        graph: a network with connections that learn.
        n_steps: steps of a sample.
        window: first teaching step of a sample, and the one after the last.

    Raises:
        ConfigError: a period that is not a whole number of learning phases, a modulator whose answer to the
            last teaching step comes after the phase, or a trace that is 0 one step after its spike.
    """
    findings = list(_findings(graph, n_steps, window))
    if findings:
        raise ConfigError(bullet_list("the network cannot learn from these lessons:", findings))


def _findings(graph: LoihiGraph, n_steps: int, window: tuple[int, int]) -> Iterator[str]:
    first, stop = window
    if not 0 <= first < stop <= n_steps:
        yield (
            f"the teaching window is steps {first} to {stop - 1}; expected one or more of the {n_steps} "
            f"steps of a sample. Take longer samples, or another window"
        )
        return
    period = graph.sample_period(n_steps)
    for name, node in graph.plastic.items():
        rule = node.rule
        if rule is None:
            continue
        every = rule.t_epoch << rule.decimation if "u" in rule.used() else rule.t_epoch
        if period % every:
            yield (
                f"connection '{name}' learns every {every} steps, and a sample takes {period}; expected "
                f"whole phases in a sample. Take n_steps a multiple of {every}, or another decimation"
            )
        for factor, source in node.modulators.items():
            late = stop - 1 + graph.latency[source]
            if source in graph.neurons and source != graph.ends[name][1] and late >= period:
                yield (
                    f"connection '{name}': {factor} of teaching step {stop - 1} comes from '{source}' at "
                    f"step {late}, after the last phase of the sample at step {period - 1}; expected a "
                    f"window that ends {late - period + 1} steps earlier"
                )
        yield from _trace_findings(name, rule)


def _trace_findings(name: str, rule: LearningRule) -> Iterator[str]:
    for factor in sorted(rule.used() & set(rule.traces)):
        trace, filtered = rule.trace(factor), factor in rule.third_factors
        kept = trace.decay * trace.impulse
        # The chip rounds its own traces at random, so that less than 1 may last.
        if (math.floor(kept) if filtered else kept) == 0:
            why = ", because modulators are cut to whole numbers" if filtered else ""
            yield (
                f"connection '{name}': {factor} has impulse {trace.impulse:g} and tau {trace.tau:g}, which "
                f"is 0 after one step{why}; expected larger ones"
            )
