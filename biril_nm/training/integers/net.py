"""``QuantizedNet``: a LoihiGraph that torch trains, equal to the chip in every integer at every moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from biril_nm.arguments import Seed, checked
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, DivergedError
from biril_nm.export.lowering import Lowering, ideal_weights
from biril_nm.export.nir_nodes.neurons import LARGEST
from biril_nm.hardware_sim.engine.components import execution_order
from biril_nm.hw_graph import Dense, LoihiGraph, Output, Sparse
from biril_nm.hw_graph.inputs import check_inputs, input_coding, single_input
from biril_nm.hw_graph.outputs import integrators
from biril_nm.loihi import LOIHI2, chip_profile
from biril_nm.loihi.fixed_point import prepare_weights
from biril_nm.models.links import INPUT, Link
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.neurons.surrogates import LearnedAtan, make_surrogate
from biril_nm.recording import NodeRecording, Recording, check_variables, recorded_nodes
from biril_nm.recording.readout import decision_of, readout_node
from biril_nm.training.integers.checks import check_source
from biril_nm.training.integers.connections import QuantizedConnection
from biril_nm.training.integers.fused import slope_of
from biril_nm.training.integers.neurons import QuantizedNeurons
from biril_nm.training.integers.pooling import NO_POOL, Pool
from biril_nm.training.integers.run import Run
from biril_nm.training.integers.scales import best_factors
from biril_nm.training.run_folder import GRAPH

__all__ = ["QuantizedNet", "trained_graph"]

TRAINED, INTEGERS = "trained_on", "integers"  # key and value in the metadata of a trained graph


def trained_graph(graph: LoihiGraph) -> bool:
    """Whether a graph was trained on the integers, so that torch computes all of them."""
    return bool(graph.metadata.get(TRAINED) == INTEGERS)


class QuantizedNet(SpikingNet):
    """The integer network as a torch module: forward in the chip's integers, backward by surrogates.

    Weights, biases and scales are float parameters per threshold, rounded to registers in every pass, so
    that s, u and v equal those of :func:`biril_nm.hardware_sim.simulate` on :meth:`graph`. Gradients go
    straight through each rounding; each channel learns its scale S with its threshold register (learned
    step size, Esser et al. 2020, arXiv:1902.08153), the readout one for all classes.

    Args:
        source: stages of a lowering, from :func:`biril_nm.export.lowering.lower_stages`, whose weights
            before rounding it takes; or a LoihiGraph, whose integers it takes.
        surrogate: name of the surrogate gradient.
        fixed: connections whose weights do not learn; those into populations without memory that only
            pass spikes on (pooling by maximum) never do.
        symmetric: whether weights of both signs have as many levels below 0 as above: 2 bits are then
            ternary weights -1, 0 and 1.

    Attributes:
        compiled: whether populations without a loop run in compiled kernels on the CPU; torch runs all
            others. Both compute the same integers.

    Raises:
        ConfigError: an unknown connection or surrogate, a compartment model without gradient, thresholds
            below 1, or kernels beyond what the chip holds.
    """

    exact = True

    @checked
    def __init__(
        self,
        source: Lowering | LoihiGraph,
        surrogate: str = "sigmoid",
        fixed: Collection[str] = (),
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        stages = source if isinstance(source, Lowering) else None
        graph = source.graph if isinstance(source, Lowering) else source
        check_source(graph, fixed)
        self.base, self.surrogate = graph, make_surrogate(surrogate)
        if isinstance(self.surrogate, LearnedAtan):
            raise ConfigError(
                f"surrogate is '{surrogate}'; expected one without parameters, since the integers learn only "
                f"what the chip has. Use atan:ALPHA"
            )
        self.slope = slope_of(surrogate, self.surrogate)
        self.compiled, self.name, self.symmetric = True, INTEGERS, symmetric
        self.decision = decision_of(graph)  # type: ignore[misc]  # of the graph, not of the class
        self._order = execution_order(graph)
        chip = stages.chip if stages else chip_profile(graph.metadata.get("chip", LOIHI2.name))
        silent, readout, pools = integrators(graph), readout_node(graph), _pools(graph)
        scales = _scales(graph)
        self.populations = nn.ModuleDict()
        self._keys = {name: f"n{i}" for i, name in enumerate(graph.neurons)}
        for name, node in graph.neurons.items():
            self.populations[self._keys[name]] = QuantizedNeurons(
                node, scales.get(name), chip, name != readout, name not in (*silent, *pools)
            )
        ideal = _stored(graph) if stages is None else {**_stored(graph), **ideal_weights(stages)}
        self.connections = nn.ModuleDict()
        self._keys |= {name: f"c{i}" for i, name in enumerate(graph.connections)}
        for name, connection in graph.connections.items():
            before, after = graph.ends[name]
            bits = graph.message_bits_into(name)
            self.connections[self._keys[name]] = QuantizedConnection(
                connection,
                ideal[name],
                self.population(after).scale.detach(),
                (graph.shape_of(before), graph.shape_of(after)),
                (1 << bits) - 1 if bits else 1,
                name not in fixed and after not in pools,
                symmetric,
            )
        if stages is not None and stages.float_net is not None:
            self._choose_scales()
        self._pools_behind = {name: self._common_pool(name) for name in graph.neurons}

    def population(self, name: str) -> Any:
        """The module of a Neurons node."""
        return self.populations[self._keys[name]]

    def connection(self, name: str) -> Any:
        """The module of a connection."""
        return self.connections[self._keys[name]]

    @torch.no_grad()
    def _choose_scales(self) -> None:
        """Give each channel the scale at which its weights lose least by rounding."""
        for name in self.base.neurons:
            population = self.population(name)
            links = [self.connection(link) for link in self.base.incoming(name)]
            rows = [link.grid_link(population.scale) for link in links]
            known = [each for each in rows if each is not None]
            if population.trained and known and len(known) == len(rows):
                population.multiply_scales(best_factors(known, *population.scale_limits()))

    def pool_behind(self, name: str) -> Pool:
        """Blocks whose spikes a population may send as sums, since no connection needs more."""
        return self._pools_behind[name]

    def _common_pool(self, name: str) -> Pool:
        ends, nodes = self.base.ends, self.base.nodes
        after = [link for link, (source, _) in ends.items() if source == name]
        pools = {self.connection(link).pool for link in after if link in self.base.connections}
        read = any(
            start == name and isinstance(nodes[end], Output) for start, end in self.base.edges
        )
        return next(iter(pools)) if len(pools) == 1 and not read else NO_POOL

    def graph(self) -> LoihiGraph:
        """The integer network of now.

        Raises:
            DivergedError: parameters that are not finite.
        """
        self._check_finite()
        nodes = dict(self.base.nodes)
        for name in self.base.neurons:
            nodes[name] = self.population(name).integers()
        for name, (_, after) in self.base.ends.items():
            nodes[name] = self.connection(name).integer_node(self.population(after).scale)
        return replace(self.base, nodes=nodes)

    @property
    def coding(self) -> Coding:  # type: ignore[override]  # of the graph
        """How values become the integers of its only input.

        Raises:
            ConfigError: several inputs, or the graph does not say it.
        """
        name = single_input(self.base)
        found = input_coding(self.base, name)
        if found is None:
            raise ConfigError(
                f"input '{name}' does not say how values enter it; expected a coding. Give one to to_nir"
            )
        return found

    @property
    def n_classes(self) -> int:  # type: ignore[override]  # of the graph
        """Number of output neurons."""
        return int(np.prod(self.base.shape_of(readout_node(self.base))))

    @property
    def neurons(self) -> dict[str, Any]:
        """The populations by name, the readout last."""
        last = readout_node(self.base)
        names = [name for name in self.base.neurons if name != last]
        return {name: self.population(name) for name in (*names, last)}

    def links(self) -> tuple[Link, ...]:
        """Connections whose weights learn, with the populations that they join; those to the readout last.

        A population that nothing reaches stands for a bias, which no local rule changes.
        """
        last, found = readout_node(self.base), []
        for name, (before, after) in self.base.ends.items():
            layer = self.connection(name).as_layer()
            if layer is not None and (before in self.base.inputs or self.base.incoming(before)):
                pre = INPUT if before in self.base.inputs else before
                found.append(Link(name, layer[0], pre, layer[1], after))
        return tuple(sorted(found, key=lambda link: link.post == last))

    def identity(self) -> dict[str, Any]:
        """Plain values that a checkpoint of another network does not have."""
        digest = hashlib.sha256(json.dumps(list(self.base.edges)).encode())
        for name, node in self.base.nodes.items():
            record, arrays = node.to_arrays()
            digest.update(f"{name} {type(node).__name__} {sorted(record.items())}".encode())
            for key in sorted(arrays):
                digest.update(np.ascontiguousarray(arrays[key]).tobytes())
        return {"network": self.name, "graph": digest.hexdigest(), "symmetric": self.symmetric}

    def write(self, folder: Path) -> bool:
        """Write the graph of now, ``model.loihi.npz``."""
        self.graph().with_metadata(**{TRAINED: self.name}).save(folder / GRAPH, force=True)
        return True

    @checked
    def encode(self, values: ArrayLike, seed: Seed = 0) -> Tensor:
        """The chip's input for values in 0..1, integers ``(n_steps, batch, *shape)``."""
        coding = self.coding
        messages = coding.encode(values, seed)
        device = next(self.parameters()).device
        if coding.kind == "direct":  # the same at every step
            step = torch.tensor(messages[0], device=device)
            return step.expand(coding.n_steps, *step.shape)
        return torch.tensor(messages, device=device)

    def forward(
        self, x: Tensor | Mapping[str, Tensor], record: bool | Iterable[str] = False
    ) -> NetOutput:
        """Run all steps from rest, with gradients.

        The scores of ``count`` and ``score`` are spikes plus membrane per threshold, those of ``membrane``
        the membrane: the gradient needs the membrane.

        Args:
            x: integers ``(n_steps, batch, *shape)``, as :meth:`encode` gives them; a dict for several
                inputs.
            record: True or the names of the populations whose spikes to return, ``"input"`` too.

        Raises:
            ConfigError: names, types or shapes that do not fit.
            RangeError: values that an input does not carry.
            DivergedError: parameters that are not finite.
        """
        given = x if isinstance(x, Mapping) else {next(iter(self.base.inputs)): x}
        for name, value in given.items():
            if not isinstance(value, Tensor):
                raise ConfigError(
                    f"input '{name}' is a {type(value).__name__}; expected a tensor. Wrap it in "
                    f"torch.as_tensor, or call run_integers"
                )
        check_inputs(
            self.base, {name: value.detach().cpu().numpy() for name, value in given.items()}
        )
        names = self.recorded_names(record)
        run = self._run(given, names)
        recorded = {
            name: run.sent[name].values.detach() for name in self.base.neurons if name in names
        }
        if INPUT in names:
            recorded[INPUT] = next(iter(given.values()))
        spikes, v, theta = run.readout()
        membrane, spikes = (v / theta).flatten(1), spikes.flatten(2)
        scores = membrane if self.decision == "membrane" else spikes.sum(0) + membrane
        return NetOutput(spikes, scores, membrane, recorded)

    @torch.no_grad()
    @checked
    def run_integers(
        self, spikes: ArrayLike | Mapping[str, ArrayLike], record: Iterable[str] = ("s",)
    ) -> Recording:
        """Recording of all populations, as :func:`biril_nm.hardware_sim.simulate` gives it.

        Args:
            spikes: integers ``(n_steps, batch, *shape)``, or a dict of them by input name.
            record: variables, of s, u, v.
        """
        arrays = check_inputs(self.base, spikes)
        device = next(self.parameters()).device
        inputs = {k: torch.as_tensor(np.ascontiguousarray(a)).to(device) for k, a in arrays.items()}
        run = self._run(inputs, self.base.neurons, states=True)
        variables = check_variables(record)
        nodes, counts = {}, {}
        for name in recorded_nodes(self.base, None):
            found = {"s": run.sent[name].values, **run.states[name]._asdict()}
            kinds = {"s": np.uint8, "u": np.int32, "v": np.int32}
            nodes[name] = NodeRecording(
                **{key: found[key].cpu().numpy().astype(kinds[key]) for key in variables}
            )
            counts[name] = int(found["s"].sum())
        v_last = {name: v.cpu().numpy().astype(np.int32) for name, v in run.v_last.items()}
        return Recording(nodes, counts, v_last, meta={"engine": f"torch {torch.__version__}"})

    def _run(
        self, spikes: Mapping[str, Tensor], recorded: Collection[str], states: bool = False
    ) -> Run:
        self._check_finite()
        run = Run(self, spikes, recorded, states)
        with torch.autocast(run.device.type, enabled=False):
            for component in self._order:
                run.advance(component.names, component.looped)
        return run

    def _check_finite(self) -> None:
        """Nothing else has integers."""
        wrong = [
            self._called(key)
            for key, value in self.named_parameters()
            if not (value.exp() if key.endswith("log_scale") else value).isfinite().all()
        ]
        if wrong:
            raise DivergedError(
                f"{', '.join(wrong)} hold values that are not finite; expected finite numbers. The training "
                f"diverged: lower its learning rate, and start again"
            )

    def _called(self, key: str) -> str:
        """A parameter by the name of its connection or population."""
        _, own, parameter = key.split(".")
        names = {part: name for name, part in self._keys.items()}
        return f"{parameter.removeprefix('log_')} of '{names[own]}'"


def _stored(graph: LoihiGraph) -> dict[str, np.ndarray[Any, Any]]:
    """Weights as the chip prepares them, flat in stored order."""
    found = {}
    for name, node in graph.connections.items():
        values = node.weight.data if isinstance(node, Sparse) else node.weight
        if isinstance(node, (Dense, Sparse)):
            values = prepare_weights(values, node.weight_bits, node.sign_mode)
        found[name] = np.asarray(values, dtype=np.float64).ravel()
    return found


def _scales(graph: LoihiGraph) -> dict[str, float]:
    """S of the lowering that made a graph, by population."""
    facts = graph.metadata.get("neurons", {})
    return {name: float(found["scale"]) for name, found in facts.items() if "scale" in found}


def _pools(graph: LoihiGraph) -> tuple[str, ...]:
    """Populations that take the largest of some spikes, which lowering has made."""
    facts = graph.metadata.get("neurons", {})
    return tuple(name for name in graph.neurons if facts.get(name, {}).get(LARGEST))
