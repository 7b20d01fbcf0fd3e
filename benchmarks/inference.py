"""The simulator against its peers on one network at several densities of input, side by side.

Engines take turns within each round: a busy moment hits all of them. Spikes of the exact engines (Lava,
netx) are compared with ours in the same run, and the run fails if one differs.

    python benchmarks/inference.py dense [--quick]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from engines import Engine, LavaFixed, LavaNetx, Ours, Slayer, SnnTorch
from measuring import Measured, installed, ratios, say, take_turns
from numpy.typing import NDArray
from roofline import best_add, threads_gain
from section import Mismatch, Row, Section, Size, at_least, plain, table, timed
from workloads import WORKLOADS, Workload

from biril_nm.hardware_sim import Activity, simulate
from biril_nm.hardware_sim.cost.fanout import fan_out

DENSITIES = (0.01, 0.02, 0.05, 0.10, 0.20)
OURS = "biril_nm, 1 thread, one call"
LAVA = "Lava fixed_pt"
SNNTORCH = "snnTorch"
# Samples of a repetition, in full and quick size.
N_OURS = {"dense": (2048, 8), "conv": (128, 1)}
N_LAVA = {"dense": (16, 2), "conv": (1, 1)}
N_TORCH = {"dense": (128, 8), "conv": (128, 2)}
N_SLAYER = {"dense": (128, 8), "conv": (16, 2)}  # it keeps every layer's state of every step


@dataclass(frozen=True)
class Goals:
    """What is asked for on a network."""

    steps: float
    lava: float
    lava_stretch: float
    snntorch: float
    events: float
    less_for_less: float  # 1 % over 20 % input


GOALS = {
    "dense": Goals(1e6, 800, 1000, 8, 12, 6),
    "conv": Goals(0, 900, 1000, 4, 0, 6),
}


@dataclass(frozen=True)
class Block:
    """All engines at one density."""

    density: float
    seconds: dict[str, list[float]]  # of an engine in each round
    sample_steps: dict[str, int]
    events: float  # synaptic events per sample-step
    firing: dict[str, float]

    def rate(self, name: str) -> Measured:
        """Sample-steps per second."""
        return Measured.of([self.sample_steps[name] / s for s in self.seconds[name]])

    def faster(self, name: str, other: str) -> Measured:
        """Times that an engine is as fast as another one, pair by pair."""
        found = ratios(self.seconds[other], self.seconds[name])
        return scaled(found, self.sample_steps[name] / self.sample_steps[other])

    def named(self, start: str) -> str | None:
        """The last engine whose name starts so."""
        return next((name for name in reversed(self.seconds) if name.startswith(start)), None)


@dataclass(frozen=True)
class Profile:
    """Microseconds of a step of the network at the density of the headline, one thread."""

    silent: Measured  # a step without any spike
    layers: dict[str, float]  # what each layer adds to those before it


def make_engines(work: Workload, density: float, size: Size) -> list[tuple[Engine, NDArray[Any]]]:
    """All engines that are installed, with the input of each."""
    name = work.name
    many = work.spikes(density, size.of(*N_OURS[name]))
    few = many[:, : size.of(*N_LAVA[name])]
    batch = work.spikes(density, size.of(*N_TORCH[name]), seed=2)
    part = batch[:, : size.of(*N_SLAYER[name])]
    threads = size.threads
    calls: list[tuple[bool, Callable[[NDArray[Any]], Engine], NDArray[Any]]] = [
        (True, lambda x: Ours(work, x, 1), many),
        (threads > 1, lambda x: Ours(work, x, threads), many),
        (True, lambda x: Ours(work, x, 1, one_call=False), few),
        (installed("lava"), lambda x: LavaFixed(work, x), few),
        (installed("lava.lib.dl.netx"), lambda x: LavaNetx(work, x), few),
        (installed("lava.lib.dl.slayer"), lambda x: Slayer(work, x, threads), part),
        (installed("snntorch"), lambda x: SnnTorch(work, x, threads), batch[:, :1]),
        (installed("snntorch"), lambda x: SnnTorch(work, x, threads), batch),
    ]
    return [(call(x), x) for there, call, x in calls if there]


def compare(work: Workload, density: float, size: Size, found: dict[str, list[int]]) -> Block:
    """Every engine on one network at one density; ``found`` gets values and spikes that were equal."""
    pairs = make_engines(work, density, size)
    engines = {engine.name: engine for engine, _ in pairs}
    try:
        seconds = take_turns({n: e.run for n, e in engines.items()}, size.rounds)
        check(work, density, pairs, found)
    finally:
        for engine in engines.values():
            engine.close()
    block = Block(
        density, seconds, {n: e.sample_steps for n, e in engines.items()},
        *activity(work, work.spikes(density, size.of(*N_LAVA[work.name]))),
    )  # fmt: skip
    for name in seconds:
        say(f"  {work.name} {density:.0%} {name}: {block.rate(name).text(1, 0)} sample-steps/s")
    return block


def check(
    work: Workload,
    density: float,
    pairs: Sequence[tuple[Engine, NDArray[Any]]],
    found: dict[str, list[int]],
) -> None:
    """Output spikes of every exact engine equal ours on the same input."""
    graph = work.graph()
    readout = next(iter(graph.outputs.values()))
    for engine, spikes in pairs:
        outputs = engine.outputs()
        if outputs is None:
            continue
        wanted = simulate(graph, spikes, nodes=(readout,), n_threads=1)[readout].s
        if not np.array_equal(outputs, wanted):
            raise Mismatch(
                f"{engine.name}: {int((outputs != wanted).sum())} output spikes of the {work.name} net at "
                f"{density:.0%} differ from ours"
            )
        if not isinstance(engine, Ours):
            counts = found.setdefault(engine.name, [0, 0, 0])
            for i, n in enumerate((1, outputs.size, int(outputs.sum()))):
                counts[i] += n


def check_lines(work: Workload, found: dict[str, list[int]]) -> list[str]:
    """One line for each engine."""
    return [
        f"{engine} = ours: {work.name} net at {n} densities, {values:,} output values, {spikes:,} spikes"
        for engine, (n, values, spikes) in found.items()
    ]


def activity(work: Workload, spikes: NDArray[np.uint8]) -> tuple[float, dict[str, float]]:
    """Synaptic events per sample-step, and firing rates."""
    graph = work.graph()
    counts = Activity.of(graph, simulate(graph, spikes), spikes)
    cells = counts.n_samples * counts.n_steps
    events = sum(
        int((counts.spikes[source] * fan_out(graph, name)).sum())
        for name, (source, _) in graph.ends.items()
    )
    rates = {
        n: float(counts.spikes[n].sum()) / (cells * graph.neurons[n].size) for n in graph.neurons
    }
    return events / cells, rates


def check_states(work: Workload) -> list[str]:
    """Every spike, current and membrane potential of one sample equals Lava's."""
    if not installed("lava"):
        return []
    from biril_nm import check_parity

    report = check_parity(work.graph(), work.spikes(work.density, 1))
    if not report.ok:
        raise Mismatch(f"the {work.name} net differs from Lava: {report.summary()}")
    summary = ", ".join(report.summary().splitlines())
    return [f"{work.name} net, {work.density:.0%} input, all layers: {summary}"]


def profile(work: Workload, size: Size) -> Profile:
    """The net without spikes, and cut off behind each of its layers in turn."""
    n = size.of(*N_OURS[work.name])
    spikes = work.spikes(work.density, n)
    parts = {
        f"layer {k}": Ours(replace(work, layers=work.layers[:k]), spikes, 1)
        for k in range(1, len(work.layers) + 1)
    }
    silent = Ours(work, work.spikes(0.0, n), 1)
    seconds = take_turns(
        {"silent": silent.run, **{k: e.run for k, e in parts.items()}}, size.rounds
    )
    us = {k: Measured.of([1e6 * s / silent.sample_steps for s in v]) for k, v in seconds.items()}
    costs = [us[name].middle for name in parts]
    added = [cost - before for cost, before in zip(costs, [0.0, *costs])]
    return Profile(us["silent"], dict(zip(parts, added)))


def why(block: Block, found: Profile, bound: Measured) -> str:
    """The reason of a speed: the silent step, the sums at the roofline, the rest, and the layers."""
    cost = 1e6 / block.rate(OURS).middle
    silent, sums = found.silent.middle, 1e6 * block.events / bound.middle
    total = sum(found.layers.values())
    layers = ", ".join(f"{name} {us / total:.0%}" for name, us in found.layers.items())
    return (
        f"{cost:.2f} us a step: {silent:.2f} ({silent / cost:.0%}) without any spike, {sums:.2f} "
        f"({sums / cost:.0%}) for {block.events:,.0f} events at the roofline of "
        f"{bound.middle / 1e9:.0f} G/s, {cost - silent - sums:.2f} above both; by layers: {layers}"
    )


def headline(name: str, blocks: Sequence[Block], reason: str, size: Size) -> list[Row]:
    """The figures with targets, at the density of the workload."""
    goals, density = GOALS[name], WORKLOADS[name]().density
    block = nearest(blocks, density)
    label = f"{name} net, {density:.0%} input"
    rate = block.rate(OURS)
    rows = [
        wanted(f"{label}: one thread", scaled(rate, 1e-3), goals.steps / 1e3, " k steps/s", reason),
        over_lava(label, block, goals, reason),
    ]
    all_threads = block.named(f"biril_nm, {size.threads} threads")
    if all_threads:
        torch = block.named(SNNTORCH)
        found = block.faster(all_threads, torch) if torch else None
        what = f"{label}: {size.threads} threads over snnTorch's float loop"
        missing = reason if torch else "snnTorch is not installed"
        rows.append(at_least(what, found, goals.snntorch, "x", missing))
        gain = threads_gain(size).text(1, 2)
        why_threads = f"{size.threads} threads of the roofline's loop are {gain} of one here"
        what = f"{label}: {size.threads} threads over one"
        rows.append(at_least(what, block.faster(all_threads, OURS), 1.7, "x", why_threads))
    events = scaled(rate, block.events / 1e9)
    what = f"{label}: synaptic events of one thread"
    rows.append(wanted(what, events, goals.events, " G/s", reason))
    low, high = blocks[0], blocks[-1]
    less = low.rate(OURS).middle / high.rate(OURS).middle
    what = f"{name} net: {low.density:.0%} over {high.density:.0%} input"
    silent = f"a step without any spike bounds it; {reason}"
    rows.append(at_least(what, Measured(less, less, less), goals.less_for_less, "x", silent))
    return rows


def over_lava(label: str, block: Block, goals: Goals, reason: str) -> Row:
    """One thread over Lava, where it is."""
    lava, what = block.named(LAVA), f"{label}: one thread over Lava"
    if lava is None:
        return at_least(what, None, goals.lava, "x", "Lava is not installed", goals.lava_stretch)
    why_lava = f"{reason}; Lava {block.rate(lava).middle:,.0f} steps/s"
    return at_least(what, block.faster(OURS, lava), goals.lava, "x", why_lava, goals.lava_stretch)


def nearest(blocks: Sequence[Block], density: float) -> Block:
    """The block at a density."""
    return min(blocks, key=lambda each: abs(each.density - density))


def scaled(found: Measured, factor: float) -> Measured:
    """In another unit."""
    return Measured(*(factor * x for x in asdict(found).values()))


def wanted(what: str, found: Measured, goal: float, unit: str, reason: str) -> Row:
    """A row with a lower bound, or without one where the goal is 0."""
    return at_least(what, found, goal, unit, reason) if goal else plain(what, found, unit)


def density_table(blocks: Sequence[Block], found: Profile, bound: Measured) -> str:
    """Engines by densities."""
    cells: dict[str, list[str]] = defaultdict(list)
    spread = 0.0
    for block in blocks:
        for name in block.seconds:
            rate = block.rate(name)
            spread = max(spread, (rate.high - rate.low) / rate.middle)
            faster = block.faster(OURS, name).middle
            cells[name].append(f"{rate.middle:,.0f}" + f" ({faster:,.1f}x)" * (name != OURS))
        rate, silent = block.rate(OURS).middle, found.silent.middle
        above = 1e6 / rate - silent
        cells["*synaptic events per step*"].append(f"{block.events:,.0f}")
        cells["*firing, lowest to highest layer*"].append(
            f"{min(block.firing.values()):.1%} to {max(block.firing.values()):.1%}"
        )
        cells["*us per step, of which above a silent one*"].append(f"{1e6 / rate:.2f}, {above:.2f}")
        reached = rate * block.events
        cells["*G events/s, share of the roofline*"].append(
            f"{reached / 1e9:.2f}, {reached / bound.middle:.0%}"
        )
    header = ("engine", *(f"{block.density:.0%} input" for block in blocks))
    return (
        "Sample-steps per second, in brackets how many times that our one thread is. A range is at most "
        f"{spread:.0%} of its median.\n\n" + table(header, [(k, *v) for k, v in cells.items()])
    )


def network(name: str, size: Size) -> Section:
    """One network at all densities."""
    work = WORKLOADS[name]()
    checks, found = check_states(work), {}
    densities = size.of(DENSITIES, (work.density,))
    blocks = [compare(work, density, size, found) for density in densities]
    measured, bound = profile(work, size), best_add(size)
    near = nearest(blocks, work.density)
    reason = why(near, measured, bound)
    layers = ", ".join("x".join(map(str, layer.weight.shape)) for layer in work.layers)
    text = (
        f"{work.n_steps} steps, weights {layers}. A step without any spike takes "
        f"{measured.silent.text(1, 2)} us: it decays every membrane, compares it with its threshold and "
        f"looks for spikes. At {near.density:.0%} input {reason}.\n\n"
        + density_table(blocks, measured, bound)
    )
    curves = {
        engine: [(100 * b.density, *asdict(b.rate(engine)).values()) for b in blocks]
        for engine in blocks[0].seconds
    }
    rows = headline(name, blocks, reason, size)
    return Section(f"{name} net", rows, text, checks + check_lines(work, found), curves)


def dense(size: Size) -> Section:
    """784-512-10."""
    return network("dense", size)


def conv(size: Size) -> Section:
    """The N-MNIST network of the NIR paper."""
    return network("conv", size)


def main() -> None:
    """Print the section of one network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", choices=tuple(WORKLOADS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of the script")
    given = parser.parse_args()
    print(timed({"dense": dense, "conv": conv}[given.network], Size(given.quick)).markdown())


if __name__ == "__main__":
    main()
