"""Large networks: time and memory of lowering and of mapping, and cores beside the least that could do.

    python benchmarks/large.py [--only lower map] [--quick]           # 2.5 GB, some minutes

Each network has a process of its own. ``lower``: a layer of 4096 x 4096 normal weights, BIRIL's residual
network (untrained) and a network of the size of those for DVS Gesture. ``map``: these two, the networks of
the benchmark, and a recurrent Sparse of 139,000 neurons and 15 million synapses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from large_networks import LOWERED, STEP_S, layer, lowered, random_matrix, random_network
from measuring import Costs, Measured, costs, give_back_memory, in_child, say
from profiling import hottest
from section import Row, Section, Size, at_most, table, timed
from workloads import WORKLOADS

from biril_nm.hardware_sim import map_to_chip
from biril_nm.hardware_sim.mapping import messages
from biril_nm.hardware_sim.mapping.placement import Placement
from biril_nm.hw_graph import LoihiGraph

CHIPS, N_CHIPS = ("loihi2", "loihi1"), 64
OVER_LEAST = 1.3
PATIENCE_S = 20.0  # calls are repeated until then
SPARSE = "recurrent Sparse, 139,000 neurons"
SECONDS = {"4096 x 4096 layer": 1.0, "ResNet-18-sized net": 2.0}
TIMES_WEIGHTS = 3.0  # highest memory of lowering over that of the float weights
MAP_SECONDS = {"ResNet-18-sized net": 3.0, "DVS-Gesture-sized net": 3.0, SPARSE: 10.0}
TRAFFIC = "ResNet-18-sized net"  # whose cores change places too
ONE_CHIP = {"DVS-Gesture-sized net": CHIPS[:1], SPARSE: CHIPS[:1]}
Facts = dict[str, Any]
T = TypeVar("T")


# --- in processes of their own --------------------------------------------------------------------


def lowering(name: str, quick: bool, rounds: int) -> Facts:
    """Costs of each call of ``lower``, size of the float weights, and where time goes."""
    from biril_nm.export import lower

    make, less = LOWERED[name]
    lower(layer(8), dt_s=STEP_S, reset="zero")  # loads the code
    graph = make(*(less if quick else ()))
    found, _ = repeated(lambda: lower(graph, dt_s=STEP_S, reset="zero"), name, SECONDS, rounds)
    weights = sum(np.size(getattr(node, "weight", ())) for node in graph.nodes.values())
    return {**found, "weights_mib": 4 * weights / 2**20}


def mapping(name: str, quick: bool, rounds: int) -> list[Facts]:
    """Costs of each call of ``map_to_chip`` on each chip, and the cores."""
    if name == SPARSE:
        graph = random_network(random_matrix(1000 if quick else 139_000))
    else:
        graph = WORKLOADS[name]().graph() if name in WORKLOADS else lowered(name, quick)
    return [_mapped(graph, name, chip, rounds) for chip in ONE_CHIP.get(name, CHIPS)]


def _mapped(graph: LoihiGraph, name: str, chip: str, rounds: int) -> Facts:
    def work() -> Any:
        return map_to_chip(graph, chip, n_chips=N_CHIPS)

    found, placement = repeated(work, name, MAP_SECONDS, rounds)
    least = placement.least
    largest = max((each["all"] for each in least.populations.values()), default=0)
    moved = _moved(graph, placement) if (name, chip) == (TRAFFIC, CHIPS[0]) else {}
    return {
        **found, "chip": chip, "cores": len(placement.cores), "chips": placement.chips_needed,
        "bounds": {**least.network, "one_population": largest}, **moved,
    }  # fmt: skip


def _moved(graph: LoihiGraph, placement: Placement) -> Facts:
    """Hops before and after cores change places, if every neuron spikes once, and the time it takes."""
    spent, exchanged = costs(
        lambda: map_to_chip(graph, placement.limits, n_chips=N_CHIPS, optimise="traffic")
    )
    ones = {name: np.ones(node.shape, dtype=np.int64) for name, node in graph.neurons.items()}
    hops = []
    for each in (placement, exchanged):
        sent = [messages(graph, each, name, spikes) for name, spikes in ones.items()]
        hops.append(sum(m.hops_x + m.hops_y for m in sent))
    return {"hops": hops, "traffic_s": spent.wall}


def repeated(
    work: Callable[[], T], name: str, goals: Mapping[str, float], rounds: int
) -> tuple[Facts, T]:
    """Costs of some calls, where time goes if they miss their goal, and what the last one gave."""
    runs: list[tuple[Costs, T]] = []
    while not runs or (len(runs) < rounds and sum(each.wall for each, _ in runs) < PATIENCE_S):
        give_back_memory()
        runs.append(costs(work))
    spent = [asdict(each) for each, _ in runs]
    missed = _walls(spent).middle > goals.get(name, float("inf"))
    return {"costs": spent, "reason": hottest(work) if missed else ""}, runs[-1][1]


# --- sections -------------------------------------------------------------------------------------


def _walls(spent: Sequence[Mapping[str, float]]) -> Measured:
    return Measured.of([each["wall"] for each in spent])


def lower_section(size: Size) -> Section:
    """Lowering: time and memory."""
    rows: list[Row] = []
    lines = []
    for name in LOWERED:
        say(f"  lowering: {name}")
        found = in_child(lowering, name, size.quick, size.of(3, 1))
        most = max((Costs(**each) for each in found["costs"]), key=lambda each: each.mib)
        cpu = min(each["cpu"] for each in found["costs"])
        times = most.mib / found["weights_mib"]
        if name in SECONDS:
            label = f"lowering, {name}"
            rows.append(
                at_most(label, _walls(found["costs"]), SECONDS[name], " s", found["reason"])
            )
            memory = Measured(times, times, times)
            why = f"{most.mib:,.0f} MiB above the NIR graph"
            rows.append(
                at_most(f"{label}: memory over float weights", memory, TIMES_WEIGHTS, "x", why)
            )
        lines.append(
            (name, _walls(found["costs"]).text(1, 2), f"{cpu:.2f}", f"{found['weights_mib']:,.0f}",
             f"{most.mib:,.0f}", f"{times:.1f}")
        )  # fmt: skip
    header = (
        "network", "s", "CPU s, least", "float weights, MiB", "memory above the NIR graph, MiB",
        "over weights",
    )  # fmt: skip
    return Section("Lowering", rows, table(header, lines))


def map_section(size: Size) -> Section:
    """Mapping: time, memory, cores, hops."""
    rows: list[Row] = []
    lines = []
    traffic: list[str] = []
    for name, found in _mappings(size):
        cores = found["cores"]
        limit, least = max(found["bounds"].items(), key=lambda item: item[1])
        if name in MAP_SECONDS:
            label = f"mapping, {name} on {found['chip']}"
            rows.append(
                at_most(label, _walls(found["costs"]), MAP_SECONDS[name], " s", found["reason"])
            )
        over = cores / max(1, least)
        if found["chip"] == CHIPS[0]:
            why = (
                f"{cores:,} cores, at least {least:,} in any placement ({limit.replace('_', ' ')})"
            )
            what = f"cores over the least that could do, {name} on {CHIPS[0]}"
            rows.append(at_most(what, Measured(over, over, over), OVER_LEAST, "x", why))
        if "hops" in found:
            before, after = found["hops"]
            traffic.append(
                f'\nWith `optimise="traffic"`, {name} on {found["chip"]}: {after / max(1, before):.0%} of '
                f"the hops ({after:,} of {before:,}, if every neuron spikes once), in "
                f"{found['traffic_s']:.1f} s."
            )
        most = max(each["mib"] for each in found["costs"])
        lines.append(
            (name, found["chip"], _walls(found["costs"]).text(1, 2), f"{most:,.0f}", f"{cores:,}",
             f"{least:,} ({limit.replace('_', ' ')})", f"{over:.2f}", f"{found['chips']:,}")
        )  # fmt: skip
    header = (
        "network", "chip", "s", "memory, MiB", "cores", "at least (what binds)", "over it", "chips"
    )  # fmt: skip
    return Section("Mapping", rows, "\n".join([table(header, lines), *traffic]))


def _mappings(size: Size) -> Iterator[tuple[str, Facts]]:
    for name in (*WORKLOADS, *list(LOWERED)[1:], SPARSE):
        say(f"  mapping: {name}")
        for found in in_child(mapping, name, size.quick, size.of(3, 1)):
            yield f"{name} net" if name in WORKLOADS else name, found


PARTS: dict[str, Callable[[Size], Section]] = {"lower": lower_section, "map": map_section}


def main() -> None:
    """Print the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of the script")
    given = parser.parse_args()
    for name in given.only:
        print(timed(PARTS[name], Size(given.quick)).markdown(), end="\n\n")


if __name__ == "__main__":
    main()
