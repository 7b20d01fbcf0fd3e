"""A model of energy: counts of a run times a named table of constants. Modelled, never measured.

Counts are exact: synaptic operations are spikes times the fan-out on *stored* synapses (the chip
reads the zeros of a dense matrix too), neuron updates are neurons times steps, messages are one per
spike and destination core. The only public table is that of Loihi 1; for Loihi 2 there is none, so
its estimates carry the label "Loihi 1 constants".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.cost.activity import Activity
from biril_nm.hardware_sim.cost.fanout import fan_out
from biril_nm.hardware_sim.mapping.messages import messages
from biril_nm.hardware_sim.mapping.placement import Placement
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import driving_inputs
from biril_nm.loihi import LOIHI1, ChipProfile, chip_profile
from biril_nm.recording import Recording

__all__ = ["DAVIES_2018", "Constant", "EnergyEstimate", "EnergyTable", "LayerEnergy",
           "energy_text", "estimate_energy"]  # fmt: skip

PICO = 1e-12


@checked
@dataclass(frozen=True)
class Constant:
    """Energy of one event.

    Attributes:
        picojoules: energy.
        source: where the number comes from, and how sure it is.
    """

    picojoules: float
    source: str


@checked
@dataclass(frozen=True)
class EnergyTable:
    """Energies per event under one name.

    Attributes:
        name: how results call it.
        chip: chip it was published for.
        synaptic_operation: one spike at one stored synapse.
        neuron_update: one neuron in one step, as an active neuron.
        spike: one message delivered within a tile.
        hop_x: one tile further, east or west.
        hop_y: one tile further, north or south.
    """

    name: str
    chip: str
    synaptic_operation: Constant
    neuron_update: Constant
    spike: Constant
    hop_x: Constant
    hop_y: Constant

    def rows(self) -> list[tuple[str, str, str]]:
        """(event, energy, source) as text."""
        names = ("synaptic_operation", "neuron_update", "spike", "hop_x", "hop_y")
        found = [(name, getattr(self, name)) for name in names]
        return [(n.replace("_", " "), f"{c.picojoules:g} pJ", c.source) for n, c in found]


_PAPER = "Davies et al., IEEE Micro 38(1), 2018 (pre-silicon simulation)"
# Energy of events on Loihi 1, as its paper gives it.
DAVIES_2018 = EnergyTable(
    name="Loihi 1 constants (Davies et al. 2018)",
    chip=LOIHI1.name,
    synaptic_operation=Constant(23.6, f"{_PAPER}, minimum; as in keras-spiking"),
    neuron_update=Constant(81.0, f"{_PAPER}, active neuron; as in keras-spiking (inactive: 52 pJ)"),
    spike=Constant(1.7, f"{_PAPER}; as in SLAM-Lab/SANA-FE arch files"),
    hop_x=Constant(3.0, f"{_PAPER}; as in SLAM-Lab/SANA-FE arch files"),
    hop_y=Constant(4.0, f"{_PAPER}; SLAM-Lab/SANA-FE has 4.2"),
)


@dataclass(frozen=True)
class LayerEnergy:
    """What one Neurons node costs per sample, with the connections that end at it.

    Attributes:
        synops: synaptic operations.
        updates: neuron updates.
        spikes: spikes that its neurons send.
        messages: spikes times destination cores, of the spikes that it sends; None without mapping.
        hops: tiles that those messages cross, (x, y); None without mapping.
        joules: modelled energy.
    """

    synops: float
    updates: float
    spikes: float
    messages: float | None
    hops: tuple[float, float] | None
    joules: float


@dataclass(frozen=True)
class EnergyEstimate:
    """Modelled energy per sample.

    Attributes:
        label: what kind of number this is and what its sum leaves out, to be printed beside it.
        table: the constants.
        layers: Input or Neurons name -> cost per sample.
        latency_steps: steps from the first input to the last node's first answer.
        sample_steps: steps from one sample to the next.
        n_samples: samples that were averaged.
        notes: what is not in the number.
    """

    label: str
    table: EnergyTable
    layers: Mapping[str, LayerEnergy]
    latency_steps: int
    sample_steps: int
    n_samples: int
    notes: tuple[str, ...]

    @property
    def joules(self) -> float:
        """Modelled energy of one sample."""
        return sum(layer.joules for layer in self.layers.values())

    @property
    def synops(self) -> float:
        """Synaptic operations of one sample."""
        return sum(layer.synops for layer in self.layers.values())

    @property
    def updates(self) -> float:
        """Neuron updates of one sample."""
        return sum(layer.updates for layer in self.layers.values())

    @property
    def spikes(self) -> float:
        """Spikes of one sample, input included."""
        return sum(layer.spikes for layer in self.layers.values())

    def __repr__(self) -> str:
        return f"EnergyEstimate({self.summary()})"

    def summary(self) -> str:
        """One line, label included."""
        return (
            f"{energy_text(self.joules)} per sample ({self.label}): {self.synops:,.0f} synaptic "
            f"operations, {self.updates:,.0f} neuron updates, {self.spikes:,.0f} spikes"
        )


@checked
def energy_text(joules: float) -> str:
    """Three digits and a unit: ``7.23 µJ``."""
    for unit, scale in (("J", 1.0), ("mJ", 1e3), ("µJ", 1e6), ("nJ", 1e9)):
        if joules * scale >= 1:
            return f"{joules * scale:.3g} {unit}"
    return f"{joules * 1e12:.3g} pJ"


@checked
def estimate_energy(
    graph: LoihiGraph,
    trace: Recording | Activity,
    mapping: Placement | None = None,
    chip: str | ChipProfile = LOIHI1,
    inputs: Any = None,
    table: EnergyTable = DAVIES_2018,
) -> EnergyEstimate:
    """Model the energy of one sample: ``E = synops e_s + updates e_n + messages e_m + hops e_h``.

    Args:
        graph: the integer network.
        trace: a run with the spikes of every node, or the :class:`Activity` of several.
        mapping: placement on cores, for messages and hops; without it neither is counted.
        chip: what the estimate is for; the label names a chip other than the table's.
        inputs: the simulated input, if ``trace`` is a Recording; without it the first connections are
            not counted.
        table: energies per event.

    Raises:
        ConfigError: the recording lacks spikes, or the mapping is of another graph.
    """
    activity = trace if isinstance(trace, Activity) else Activity.of(graph, trace, inputs)
    if mapping is not None and set(mapping.parts) != set(graph.neurons):
        raise ConfigError("the mapping is of another graph: it places other Neurons nodes")
    profile = chip_profile(chip)
    layers = {
        name: _layer(graph, name, activity, mapping, table)
        for name in (*driving_inputs(graph), *graph.neurons)
    }
    return EnergyEstimate(
        label=_label(profile, table) + _left_out(graph, activity),
        table=table,
        layers=layers,
        latency_steps=max(graph.latency.values()),
        sample_steps=graph.sample_period(activity.n_steps),
        n_samples=activity.n_samples,
        notes=_notes(graph, activity, mapping),
    )


def _label(profile: ChipProfile, table: EnergyTable) -> str:
    if profile.name == table.chip:
        return f"modelled, {table.name}"
    return f"modelled, {table.name}: no table of {profile.name} is public"


def _left_out(graph: LoihiGraph, activity: Activity) -> str:
    """The connections that are missing from the sum because nothing is known of their source."""
    unknown = [c for c, (source, _) in graph.ends.items() if source not in activity.spikes]
    return f"; without {', '.join(unknown)}: no input was given (inputs=)" if unknown else ""


def _notes(graph: LoihiGraph, activity: Activity, mapping: Placement | None) -> tuple[str, ...]:
    notes = ["without static power, host, input/output and the barrier between steps"]
    if mapping is None:
        notes.append("without messages and hops: no mapping was given")
    if not all(name in activity.spikes for name in driving_inputs(graph)):
        notes.append("without the synaptic operations of the input: no input was given")
    else:
        notes.append("spikes of the input enter at their core: no hops are counted for them")
    if any(getattr(node, "rule", None) is not None for node in graph.connections.values()):
        notes.append("without learning")
    return tuple(notes)


def _layer(
    graph: LoihiGraph,
    name: str,
    activity: Activity,
    mapping: Placement | None,
    table: EnergyTable,
) -> LayerEnergy:
    n = activity.n_samples
    known = activity.spikes.get(name)
    spikes = 0.0 if known is None else float(known.sum()) / n
    synops = 0
    for connection in graph.incoming(name) if name in graph.neurons else ():
        source = graph.ends[connection][0]
        if source in activity.spikes:
            synops += int((activity.spikes[source] * fan_out(graph, connection)).sum())
    size = graph.neurons[name].size if name in graph.neurons else 0
    updates = float(size * activity.n_steps)
    sent, hops = None, None
    if mapping is not None and name in graph.neurons:
        found = messages(graph, mapping, name, np.asarray(known))
        sent, hops = found.sent / n, (found.hops_x / n, found.hops_y / n)
    events = (
        (synops / n, table.synaptic_operation),
        (updates, table.neuron_update),
        (sent or 0.0, table.spike),
        (hops[0] if hops else 0.0, table.hop_x),
        (hops[1] if hops else 0.0, table.hop_y),
    )
    joules = sum(count * constant.picojoules for count, constant in events) * PICO
    return LayerEnergy(synops / n, updates, spikes, sent, hops, joules)
