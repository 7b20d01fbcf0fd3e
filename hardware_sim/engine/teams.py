"""Threads that share one sample: each sums some targets of a large connection.

Their parts are disjoint, and each is a connection of its own to the kernels, of the same types, so that
nothing is compiled for it. A sum is made by one thread, as it is without others. A step that visits few
synapses is left to one thread: to wake another takes longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.engine.sparse_tables import SHARE
from biril_nm.hardware_sim.engine.synapses import Synapses
from biril_nm.hardware_sim.kernels import loops
from biril_nm.hardware_sim.kernels.records import (
    Link,
    Scratch,
    SparseWeights,
    SpikeRows,
    Weights,
)

__all__ = ["ALONE", "Receiver", "Team", "team"]


@dataclass(frozen=True)
class Team:
    """Threads that one worker has, itself included, and where the others are."""

    size: int
    pool: ThreadPoolExecutor | None = None


ALONE = Team(1)


@contextmanager
def team(program: Program, n_threads: int, n_workers: int) -> Iterator[Team]:
    """The team of each worker: more than itself where threads are left and a connection has parts."""
    size = n_threads // n_workers
    if size < 2 or all(link.n_parts == 1 for e in program.incoming.values() for link in e):
        yield ALONE
        return
    with ThreadPoolExecutor((size - 1) * n_workers, "biril-sim-part") as pool:
        yield Team(size, pool)


class _Share(NamedTuple):
    """What one thread sums of a connection: targets, and weights and memory of these alone."""

    targets: slice
    weights: Weights
    scratch: Scratch


class Receiver:
    """Puts what connections deliver where they meet, in as many threads as the team has.

    Args:
        program: the compiled graph.
        team: of the worker.
    """

    def __init__(self, program: Program, team: Team) -> None:
        self._call, self._team = program.kernels.call, team
        self._always = program.paths.targets == "parts"
        self._shares: dict[str, list[_Share]] = {}

    def receive(
        self, synapses: Synapses, link: Link, a: Array, steps: tuple[int, int], add: bool
    ) -> None:
        """Put or add what a connection delivers in some steps, first and end, into ``a``."""
        pool = self._team.pool
        if pool is None or synapses.n_parts == 1 or link.source.constant:
            self._call(loops.accumulate, synapses.name, link, a, *steps, add)
            return
        if synapses.name not in self._shares:
            self._shares[synapses.name] = _shares(synapses, link, self._team.size)
        shares = self._shares[synapses.name]
        enough = 0 if self._always else SHARE * len(shares)
        whole = [_Share(slice(None), link.weights, link.scratch)]
        for b in range(len(a)):
            for t in range(*steps):
                shared = _visited(synapses, link.source, b, t) >= enough
                first, *others = shares if shared else whole
                given = synapses.name, link, a, (b, t), add
                futures = [pool.submit(self._sum, share, *given) for share in others]
                self._sum(first, *given)
                for future in futures:
                    future.result()

    def _sum(
        self, share: _Share, name: str, link: Link, a: Array, at: tuple[int, int], add: bool
    ) -> None:
        """A share of one sample and step, whose targets lie side by side in memory."""
        b, t = at
        spikes = link.source.spikes[b : b + 1]
        source = link.source._replace(spikes=spikes, start=link.source.start + t)
        part = Link(source, share.weights, share.scratch, link.finish)
        self._call(loops.accumulate, name, part, a[b : b + 1, t : t + 1, share.targets], 0, 1, add)


def _visited(synapses: Synapses, source: SpikeRows, b: int, t: int) -> int:
    """About how many synapses a step visits."""
    k = source.start + t - source.lag
    n = int(np.count_nonzero(source.spikes[b, k])) if k >= source.first else 0
    if source.spikes.dtype == np.uint8:  # binary: spikes or silent sources, what is less
        n = min(n, synapses.n_pre - n)
    return n * (synapses.weights.values.size // synapses.n_pre)


def _shares(synapses: Synapses, link: Link, n_threads: int) -> list[_Share]:
    """Whole blocks of targets for each thread."""
    weights, scratch, found = link.weights, link.scratch, []
    if not isinstance(weights, SparseWeights):
        raise NotImplementedError(f"'{synapses.name}' has no parts")
    n = min(n_threads, synapses.n_parts)
    edges = [i * synapses.n_parts // n for i in range(n + 1)]
    rows = weights.pointers.reshape(synapses.n_parts, -1)
    for a, b in pairwise(edges):
        targets = slice(a * weights.size, min(b * weights.size, len(scratch.sums)))
        part = weights._replace(pointers=rows[a:b].ravel(), total=weights.total[targets])
        memory = Scratch(scratch.sums[targets], np.empty_like(scratch.active))
        found.append(_Share(targets, part, memory))
    return found
