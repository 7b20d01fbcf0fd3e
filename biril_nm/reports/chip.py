"""The chip: cards and sections about mapping, energy and NeuroBench metrics, and the verdict of parity."""

from __future__ import annotations

from typing import Any

from biril_nm.export.report.drawings import PALETTE, Tile, cores_svg
from biril_nm.export.report.page import Card, Section, Table
from biril_nm.hardware_sim import (
    Activity,
    estimate_energy,
    map_to_chip,
    neurobench_metrics,
)
from biril_nm.hardware_sim.cost.energy import EnergyEstimate, energy_text
from biril_nm.hardware_sim.cost.neurobench import NeuroBenchMetrics
from biril_nm.hardware_sim.mapping.placement import COLUMNS, Placement
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi import chip_profile
from biril_nm.parity import ParityReport
from biril_nm.recording import Recording

__all__ = ["chip_parts", "parity_card"]

MEANINGS = (
    "Footprint: weights, registers and states as the simulator stores them, zeros included.",
    "Connection sparsity: share of weights that are 0. Activation sparsity: share of neurons and steps "
    "without a spike; 1 means silent.",
    "Synaptic operations, dense: all inputs and weights count as 1. Effective: inputs and weights other "
    "than 0; ACs add spikes of 0 and 1, MACs multiply graded input.",
    "Membrane updates: changed membrane potentials; the first step counts every neuron.",
)


def chip_parts(
    graph: LoihiGraph, trace: Recording, inputs: Any, chip: str
) -> tuple[list[Card], list[Section]]:
    """Cards and sections about the chip, from a run that recorded s (and v for all metrics)."""
    profile = chip_profile(chip)
    mapping = map_to_chip(graph, profile)
    activity = Activity.of(graph, trace, inputs)
    energy = estimate_energy(graph, activity, mapping, profile)
    metrics = neurobench_metrics(graph, trace, inputs)
    cards = [_mapping_card(mapping), _energy_card(energy), _time_card(energy)]
    return cards, [_mapping(graph, mapping), _energy(energy), _metrics(metrics)]


def parity_card(report: ParityReport) -> Card:
    """Whether the engines agree; the section of the layers says more."""
    value = "equal" if report.ok else "different"
    if report.problem is not None:
        note = report.problem
    elif len(report.integer_engines) > 1:
        note = f"{' = '.join(report.integer_engines)}, {report.n_compared:,} integers"
    else:
        found = report.agreements[0]
        value = f"{found.same_predictions} of {found.n_samples}"
        note = "predictions are equal"
    return Card("parity of " + ", ".join(report.engines), value, note, report.ok)


def _mapping_card(mapping: Placement) -> Card:
    value = f"{len(mapping.cores):,} core{'s' if len(mapping.cores) != 1 else ''}"
    available = mapping.n_chips * mapping.limits.cores.value
    note = f"of {available} on {mapping.limits.chip}" + ("" if mapping.fits else ": does not fit")
    return Card("mapping", value, note, mapping.fits)


def _energy_card(energy: EnergyEstimate) -> Card:
    return Card("energy per sample, modelled", energy_text(energy.joules), energy.table.name)


def _time_card(energy: EnergyEstimate) -> Card:
    steps = energy.latency_steps
    return Card(
        "latency",
        f"{steps} step{'s' if steps != 1 else ''}",
        f"a new sample every {energy.sample_steps} steps",
    )


def _mapping(graph: LoihiGraph, mapping: Placement) -> Section:
    names = list(graph.timing.order)
    limits = mapping.limits
    tiles = [
        Tile(
            tuple((part.node, mapping.use("neurons", part.neurons)) for part in core.parts),
            f"{', '.join(dict.fromkeys(part.node for part in core.parts))}, {core.neurons:,} "
            f"neurons, {mapping.use('synapse_bits', core.synapse_bits):.0%} of synapse memory, "
            f"{core.axons_in:,} input axons",
        )
        for core in mapping.cores
    ]
    caption = "Largest block of each population (share of a core's limit)"
    table = Table(COLUMNS, mapping.rows(), caption)
    sources = Table(
        ("limit", "per core", "source"),
        [
            (
                name.replace("_", " ") + (" per chip" if name == "cores" else ""),
                f"{limit.value:,}" + ("" if limit.firm else " (unconfirmed)"),
                limit.source,
            )
            for name, limit in limits.limits().items()
        ],
        "Limits",
    )
    return Section(
        "Mapping",
        f"The network {mapping.summary()}. Each cell is a core; its coloured height is the share "
        f"of the core's neurons in use.",
        cores_svg(tiles, names, mapping.n_chips * limits.cores.value),
        [(PALETTE[i % len(PALETTE)], name) for i, name in enumerate(names)],
        (table, sources),
        [str(finding) for finding in mapping.findings],
        [f"Assumed: {line}." for line in mapping.assumptions],
    )


def _energy(energy: EnergyEstimate) -> Section:
    top = max((layer.joules for layer in energy.layers.values()), default=0.0) or 1.0
    rows = [
        (
            name,
            f"{layer.synops:,.0f}",
            f"{layer.updates:,.0f}",
            f"{layer.spikes:,.0f}",
            "-" if layer.messages is None else f"{layer.messages:,.0f}",
            "-" if layer.hops is None else f"{sum(layer.hops):,.0f}",
            energy_text(layer.joules) if layer.joules else "-",
            layer.joules / top,
        )
        for name, layer in energy.layers.items()
    ]
    layers = energy.layers.values()
    total = (
        "total",
        f"{energy.synops:,.0f}",
        f"{energy.updates:,.0f}",
        f"{energy.spikes:,.0f}",
        f"{sum(layer.messages or 0 for layer in layers):,.0f}",
        f"{sum(sum(layer.hops or ()) for layer in layers):,.0f}",
        energy_text(energy.joules),
        "",
    )
    header = (
        "population", "synaptic operations", "neuron updates", "spikes", "messages", "hops", "energy", "",
    )  # fmt: skip
    constants = Table(("event", "energy", "source"), energy.table.rows(), energy.table.name)
    return Section(
        "Energy",
        f"{energy.summary()}. A model from counts and published constants, not a measurement; mean of "
        f"{energy.n_samples} samples.",
        tables=(Table(header, [*rows, total], "Per sample", total=True), constants),
        remarks=[
            "A message is a spike on its way to one core that it reaches; a hop is a tile that it crosses.",
            *(f"{note[0].upper()}{note[1:]}." for note in energy.notes),
        ],
    )


def _metrics(metrics: NeuroBenchMetrics) -> Section:
    rows = [
        (name, f"{layer.dense:,.0f}", f"{layer.effective_acs:,.0f}", f"{layer.effective_macs:,.0f}")
        for name, layer in metrics.layers.items()
    ]
    header = ("connection", "dense", "effective ACs", "effective MACs")
    return Section(
        "NeuroBench metrics",
        f"By the definitions of the algorithm track, per sample of {metrics.n_steps} steps, mean of "
        f"{metrics.n_samples} samples.",
        tables=(
            Table(("metric", "value"), metrics.rows()),
            Table(header, rows, "Synaptic operations per sample"),
        ),
        remarks=MEANINGS,
    )
