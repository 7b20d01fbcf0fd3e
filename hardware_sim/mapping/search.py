"""The search for splits that respect the limits: the fewest cores, targets before sources.

A split costs its own blocks plus the blocks that its sources need for their output axons: many small
target blocks make every source spike travel to many cores.
"""

from __future__ import annotations

import numpy as np

from biril_nm.hardware_sim.mapping.cuts import grids, runs
from biril_nm.hardware_sim.mapping.demands import BLOCK_LIMITS, Demand, Network, Population
from biril_nm.hardware_sim.mapping.packing import count_cores
from biril_nm.hardware_sim.mapping.splits import (
    BlockGrid,
    Totals,
    as_volume,
    least_bits,
    register_sets,
)
from biril_nm.hw_graph import Conv, LoihiGraph, Sparse
from biril_nm.loihi.cores import CoreLimits

__all__ = ["BLOCK_LIMITS", "Demand", "find_splits"]

ROUNDS = 3  # feedback: a source's blocks depend on those of its targets
REPAIRS = 6  # further rounds, where blocks that were cut since take a neuron more output axons
DIVISIBLE = ("neurons", "axons_out")  # smaller blocks take less of them, in sum as much as before
SHARES = (1 / 2, 1 / 3, 1 / 4, 1 / 6)  # of these limits, for blocks that share cores
HALF_EMPTY = 0.5  # synapse memory and input axons of blocks that may share cores


def find_splits(
    graph: LoihiGraph, limits: CoreLimits
) -> tuple[dict[str, BlockGrid], dict[str, Demand], dict[str, dict[str, int]]]:
    """A split of every population, what its blocks take, and limits that no split can keep.

    Returns:
        splits, demands, and per population what a single neuron needs of the limits that it breaks.
    """
    search = _Search(graph, limits)
    search.settle()
    search.fill_gaps()
    return search.splits, search.demands, search.broken


class _Search:
    """Splits of all populations of a graph, and what their blocks take."""

    def __init__(self, graph: LoihiGraph, limits: CoreLimits) -> None:
        self.net = Network(graph, limits)
        self.order = graph.timing.order
        self.splits = {
            name: BlockGrid(as_volume(node.shape), (1, 1, 1))
            for name, node in graph.neurons.items()
        }
        self.broken: dict[str, dict[str, int]] = {}
        self.demands: dict[str, Demand] = {}
        self._sets = {name: register_sets(node, limits) for name, node in graph.neurons.items()}
        self._found: dict[str, Population] = {}
        self._shares = dict.fromkeys(graph.neurons, 1.0)

    def population(self, name: str) -> Population:
        """A population with the output axons that the present splits of its targets ask for."""
        slots = self.net.slots(name, self.splits)
        found = self._found.get(name)
        if found is None or not np.array_equal(found.slots, slots):
            found = Population(name, slots, Totals.of(slots), self._sets[name])
        return found

    def settle(self) -> None:
        """Cut every population, and again those whose targets have other blocks since."""
        for step in range(ROUNDS + REPAIRS):
            before = dict(self.splits)
            for name in reversed(self.order):
                now = self.population(name)
                if self._found.get(name) is not now:
                    self._found[name] = now
                    self.splits[name], self.broken[name] = _best(self.net, now, self._shares[name])
            if self.splits != before and step + 1 < ROUNDS:
                continue
            self.demands = {n: self._demand(n, self.splits[n]) for n in self.splits}
            full = self._too_full()
            if not full:
                break
            for name, share in full.items():
                self._shares[name] *= share
                del self._found[name]

    def _demand(self, name: str, split: BlockGrid) -> Demand:
        return self.population(name).demand(self.net, split)

    def _too_full(self) -> dict[str, float]:
        """Populations with more output axons than a core has, and the share of theirs that it has."""
        most = self.net.value("axons_out")
        worst = {name: demand.worst("axons_out") for name, demand in self.demands.items()}
        return {
            name: most / count
            for name, count in worst.items()
            if count > most and "axons_out" not in self.broken[name]
        }

    def fill_gaps(self) -> None:
        """Cut populations into smaller blocks where they then fit beside those of others."""
        cores = count_cores(self.net.graph, self.demands, self.net.limits)
        for name in self.order:
            if cores <= self._least():
                return
            demand = self.demands[name]
            uses = [np.mean(getattr(demand, k)) / self.net.value(k) for k in BLOCK_LIMITS]
            if max(uses[1:3]) > HALF_EMPTY or max(uses[0], uses[3]) < max(uses[1:3]):
                continue
            for share in SHARES:
                cores = self._finer(name, share, cores)

    def _least(self) -> int:
        """Cores that the present blocks fill if they leave no gaps."""
        sums = {k: sum(int(getattr(d, k).sum()) for d in self.demands.values()) for k in DIVISIBLE}
        return max(-(-n // self.net.value(k)) for k, n in sums.items())

    def _finer(self, name: str, share: float, cores: int) -> int:
        """Take smaller blocks of a population if that saves cores; how many cores it then takes."""
        split, broken = _best(self.net, self.population(name), share, DIVISIBLE)
        if broken != self.broken[name] or split == self.splits[name]:
            return cores
        before = self.splits, self.demands
        self.splits = {**self.splits, name: split}
        ends = [self.net.graph.ends[c][0] for c in self.net.graph.incoming(name)]
        changed = {name, *(source for source in ends if source in self.splits)}
        new = {each: self._demand(each, self.splits[each]) for each in changed}
        self.demands = {**self.demands, **new}
        found = count_cores(self.net.graph, self.demands, self.net.limits)
        if found < cores and not self._too_full():
            return found
        self.splits, self.demands = before
        return cores


def _best(
    net: Network, population: Population, share: float, of: tuple[str, ...] = ("axons_out",)
) -> tuple[BlockGrid, dict[str, int]]:
    """The cheapest split that keeps every limit which single neurons can keep, of some limits a share."""
    name, shape = population.name, population.slots.shape
    single = population.single(net)
    broken = {k: n for k, n in single.items() if n > net.value(k)}
    wanted = {limit: net.value(limit) for limit in BLOCK_LIMITS if limit not in broken}
    wanted |= {k: max(single[k], int(wanted[k] * share)) for k in of if k in wanted}
    nodes = [net.graph.connections[c] for c in net.graph.incoming(name)]
    alike = not population.sets.any()
    in_row = shape[1] == shape[2] == 1
    kinds = {type(node) for node in nodes}
    if in_row and alike and Sparse in kinds and Conv not in kinds:
        return runs(net.graph, name, population.slots, net.limits, wanted), broken
    totals = {
        "neurons": population.slots.size,
        "axons_out": population.totals.total,
        "neuron_groups": int(population.sets.max(initial=0)) + 1,
        "synapse_bits": sum(least_bits(node, net.limits) for node in nodes),
    }
    lowest = max(-(-n // wanted[limit]) for limit, n in totals.items() if limit in wanted)
    best, best_cost = BlockGrid(shape, (shape[0], shape[1], shape[2])), float("inf")
    for least, split in grids(net.graph, name, net.limits, wanted, lowest):
        if least >= best_cost:
            break
        if split.n_blocks < lowest:
            continue
        if population.breaks(net, split, wanted):
            if in_row and "axons_in" in wanted:
                # A smaller block lies in at most three of these, so all of them take a third at least.
                known = (net.known.get((c, split)) for c in net.graph.incoming(name))
                total = -(-sum(int(each[0].sum()) for each in known if each) // 3)
                lowest = max(lowest, -(-total // wanted["axons_in"]))
            continue
        cost = split.n_blocks + net.source_blocks(name, split)
        if cost < best_cost:
            best, best_cost = split, cost
    return best, broken
