"""``map_to_chip``: which neurons of a graph go to which core, and what does not fit.

A model of the chip's resources, not Intel's compiler. Assumptions, all of which the result repeats:
populations are cut into blocks; kernels are shared within a block; every synapse format costs as
on Loihi 1 (nengo-loihi); input arrives from outside and takes no output axons of a core; cores fill
the mesh row by row and chips stand side by side.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Count, checked
from biril_nm.errors import RangeError, bullet_list
from biril_nm.hardware_sim.mapping.demands import BLOCK_LIMITS, Demand
from biril_nm.hardware_sim.mapping.least import LeastCores, least_cores
from biril_nm.hardware_sim.mapping.packing import Core, PlacedBlock, by_population, pack
from biril_nm.hardware_sim.mapping.search import find_splits
from biril_nm.hardware_sim.mapping.splits import BlockGrid
from biril_nm.hardware_sim.mapping.traffic import SECONDS, with_less_traffic
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi import LOIHI2, ChipProfile
from biril_nm.loihi.cores import CoreLimits, limits_of

__all__ = [
    "COLUMNS",
    "MappingFinding",
    "Placement",
    "map_to_chip",
]

# Headings of the rows of a placement.
COLUMNS = ("population", "cores", *(limit.replace("_", " ") for limit in BLOCK_LIMITS))
UNITS = {
    "neurons": "neurons",
    "synapse_bits": "bits of synapse memory",
    "axons_in": "input axons",
    "axons_out": "output axons",
    "neuron_groups": "sets of du, dv and vth",
    "synapse_formats": "synapse formats",
}
WAYS = {  # limit -> what a network can do about it
    "neurons": "Use fewer neurons: fewer channels, a larger stride, or pooling before them.",
    "synapse_bits": "Use fewer inputs per neuron, fewer weight bits or a sparse connection.",
    "axons_in": "Use fewer inputs per neuron: smaller kernels, groups, or a layer between.",
    "axons_out": "Use fewer or smaller target layers, so that they take fewer cores.",
    "neuron_groups": "Let its neurons share du, dv and vth.",
}
BOARD_CHIPS = 32  # boards hold 1 to 32 chips: Kapoho Bay 2, Kapoho Point 8, Nahuku 8 to 32 (Intel)


@dataclass(frozen=True)
class MappingFinding:
    """Something that does not fit.

    Attributes:
        node: the population, or "chip".
        found: what it needs.
        allowed: the limit and its source.
        firm: False where the limit is inferred, so that the finding is a warning.
        way_out: what to do.
    """

    node: str
    found: str
    allowed: str
    firm: bool
    way_out: str

    def __str__(self) -> str:
        kind = "" if self.firm else "warning (unconfirmed limit): "
        return f"{kind}'{self.node}': {self.found}; expected {self.allowed}. {self.way_out}"


@dataclass(frozen=True)
class Placement:
    """Result of :func:`map_to_chip`.

    Attributes:
        limits: the limits that were used, with sources.
        n_chips: chips that were allowed.
        splits: population -> its blocks.
        parts: population -> its blocks on their cores, in the order of ``splits``.
        cores: what each core holds.
        findings: what does not fit; empty if all is well.
        assumptions: what the model takes for granted.
        least: cores that any placement takes, by population and limit.
    """

    limits: CoreLimits
    n_chips: Count
    splits: Mapping[str, BlockGrid]
    parts: Mapping[str, tuple[PlacedBlock, ...]]
    cores: tuple[Core, ...]
    findings: tuple[MappingFinding, ...]
    assumptions: tuple[str, ...]
    least: LeastCores

    @property
    def least_cores(self) -> int:
        """Cores that no placement can do without."""
        return self.least.cores

    @property
    def cores_text(self) -> str:
        """How many cores are used, and what any placement takes where that is less."""
        return f"{len(self.cores):,}{_at_least(len(self.cores), self.least_cores)}"

    @property
    def fits(self) -> bool:
        """Whether no firm limit is broken (warnings do not count)."""
        return not any(finding.firm for finding in self.findings)

    @property
    def chips_needed(self) -> int:
        """Chips that the cores fill."""
        return -(-len(self.cores) // self.limits.cores.value)

    def raise_if_unfit(self) -> None:
        """Raise one error with every firm limit that is broken.

        Raises:
            RangeError: something does not fit.
        """
        firm = [str(finding) for finding in self.findings if finding.firm]
        if firm:
            raise RangeError(bullet_list(f"the network does not fit {self.limits.chip}:", firm))

    def rows(self) -> list[tuple[str, ...]]:
        """One row per population, as :data:`COLUMNS` names the cells: its cores, its fullest block."""
        found = []
        for name, parts in self.parts.items():
            worst = {key: max(getattr(part, key) for part in parts) for key in BLOCK_LIMITS}
            cells = [f"{worst[key]:,} ({self.use(key, worst[key]):.0%})" for key in BLOCK_LIMITS]
            cores = len({part.core for part in parts})
            least = _at_least(cores, self.least.populations[name]["all"])
            found.append((name, f"{cores}{least}", *cells))
        return found

    def use(self, limit: str, value: int) -> float:
        """Share of a limit that ``value`` takes."""
        return value / int(getattr(self.limits, limit).value)

    def __repr__(self) -> str:
        return f"Placement({self.summary()})"

    def summary(self) -> str:
        """One line."""
        fit = "fits" if self.fits else "does not fit"
        warned = sum(not finding.firm for finding in self.findings)
        tail = f", {warned} warning{'s' if warned > 1 else ''}" if warned else ""
        available = self.n_chips * self.limits.cores.value
        least = _at_least(len(self.cores), self.least_cores)
        used = f"{len(self.cores):,} of {available:,} cores{least}"
        return f"{fit} {self.limits.chip}: {used}{tail}"


def _at_least(cores: int, least: int) -> str:
    """What is added to a number of cores that another placement might not need."""
    return f" (at least {least:,})" if least < cores else ""


@checked
def map_to_chip(
    graph: LoihiGraph,
    chip: str | ChipProfile | CoreLimits = LOIHI2,
    n_chips: Count = 1,
    optimise: Literal["cores", "traffic"] = "cores",
    spikes: Mapping[str, NDArray[Any]] | None = None,
    seconds: float = SECONDS,
) -> Placement:
    """Place a graph on the cores of a chip, and find what does not fit.

    Args:
        graph: the integer network.
        chip: chip or name, or limits of your own board.
        n_chips: chips that are there.
        optimise: ``"cores"``: few cores, numbered in the order of latency; ``"traffic"``: the same cores,
            exchanged until the messages between them cross few tiles.
        spikes: how often each neuron of a population spikes, as :attr:`.Activity.spikes` has it; None: all
            equally often. Traffic only.
        seconds: time limit of the exchanges.

    Returns:
        The placement, also of a network that does not fit: ``findings`` says why.

    Raises:
        ConfigError: no chips, no limits are known for the chip, an unknown ``optimise``, or spikes of a
            population in another shape.
    """
    limits = limits_of(chip)
    with _no_search_for_garbage():
        splits, demands, broken = find_splits(graph, limits)
        cores = pack(graph, splits, demands, limits)
        if optimise == "traffic":
            cores = with_less_traffic(graph, splits, cores, limits, spikes or {}, seconds)
    return Placement(
        limits=limits,
        n_chips=n_chips,
        splits=splits,
        parts=by_population(graph, cores),
        cores=tuple(cores),
        findings=tuple(_findings(graph, demands, broken, cores, limits, n_chips)),
        assumptions=_assumptions(limits),
        least=least_cores(graph, limits, broken),
    )


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Pause Python's search for cycles, which would go through all blocks again and again; they stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _findings(
    graph: LoihiGraph,
    demands: Mapping[str, Demand],
    broken: Mapping[str, Mapping[str, int]],
    cores: list[Core],
    limits: CoreLimits,
    n_chips: Count,
) -> list[MappingFinding]:
    found = []
    for name, single in broken.items():
        for key, count in single.items():
            limit = getattr(limits, key)
            needs = f"a single neuron needs up to {count:,} {UNITS[key]}"
            allowed = f"{limit.value:,} per core ({limit.source})"
            found.append(MappingFinding(name, needs, allowed, limit.firm, WAYS.get(key, "")))
    for name in graph.neurons:
        formats, limit = len(graph.incoming(name)), limits.synapse_formats
        if formats > limit.value:
            needs = f"{formats} connections end here, each with a synapse format"
            allowed = f"{limit.value} formats per core ({limit.source})"
            way = "Join connections with equal formats."
            found.append(MappingFinding(name, needs, allowed, limit.firm, way))
    available = n_chips * limits.cores.value
    if len(cores) > available:
        name, key, why = _largest(demands, cores, limits)
        found.append(
            MappingFinding(
                "chip",
                f"{len(cores):,} cores needed, most by {why}",
                f"{available:,} on {n_chips} chip{'s' if n_chips > 1 else ''} ({limits.cores.source})",
                limits.cores.firm,
                _smaller(name, key, -(-len(cores) // limits.cores.value)),
            )
        )
    return found


def _smaller(name: str, key: str, chips: int) -> str:
    """What makes a network of too many cores fit: a smaller population, or a board that exists."""
    way = f"Make '{name}' smaller. {WAYS[key]}"
    if chips <= BOARD_CHIPS:
        return f"{way} Or use a board of {chips} chips (n_chips={chips})."
    return f"{way} As it is it fills {chips:,} chips, and boards hold up to {BOARD_CHIPS}."


def _largest(
    demands: Mapping[str, Demand], cores: list[Core], limits: CoreLimits
) -> tuple[str, str, str]:
    """The population on the most cores, the limit that its blocks come closest to, and both as text."""
    homes = Counter(name for core in cores for name in {part.node for part in core.parts})
    name = max(demands, key=lambda key: homes[key])
    share = {
        key: float(np.mean(getattr(demands[name], key))) / getattr(limits, key).value
        for key in BLOCK_LIMITS
    }
    key = max(share, key=lambda k: share[k])
    limit = getattr(limits, key)
    sure = "" if limit.firm else ", unconfirmed"
    return (
        name,
        key,
        (
            f"'{name}' ({homes[name]:,}) because of its {UNITS[key]} "
            f"({limit.value:,} per core{sure}: {limit.source})"
        ),
    )


def _assumptions(limits: CoreLimits) -> tuple[str, ...]:
    axons = (
        "a convolution's input takes one population axon per source pixel"
        if limits.population_axons
        else "each source neuron takes one input axon"
    )
    kernels = (
        "a core keeps a convolution kernel once, without target indices"
        if limits.kernels_once
        else "a core keeps a convolution kernel once per kind of border, for all positions"
    )
    registers = (
        "a population takes a neuron group for every different set of du, dv and vth on a core"
        if limits.register_tables
        else "a population takes one neuron group on a core; du, dv and vth may differ by neuron"
    )
    return (
        "populations are cut into blocks; blocks that leave room share a core",
        kernels,
        axons,
        f"synapse lists cost as on Loihi 1 ({limits.format.source})",
        registers,
        "input comes from outside the cores",
        f"mesh: {limits.mesh_source}; cores fill it row by row, chips stand side by side",
    )
