"""``QuantizedNet``: a LoihiGraph that torch trains, equal to the chip in every integer at every moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError, bullet_list
from biril_nm.export.lowering import Lowering, ideal_weights
from biril_nm.export.nir_nodes.neurons import LARGEST
from biril_nm.hardware_sim.engine.components import execution_order
from biril_nm.hw_graph import Dense, LoihiGraph, Sparse
from biril_nm.hw_graph.inputs import check_inputs
from biril_nm.hw_graph.outputs import integrators
from biril_nm.loihi import chip_profile
from biril_nm.loihi.fixed_point import prepare_weights
from biril_nm.neurons.surrogates import make_surrogate
from biril_nm.recording import NodeRecording, Recording, check_variables, recorded_nodes
from biril_nm.recording.readout import decision_of, readout_node
from biril_nm.training.integers.connections import QuantizedConnection
from biril_nm.training.integers.neurons import QuantizedNeurons, State, advance

__all__ = ["QuantizedNet"]


class QuantizedNet(nn.Module):
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

    Raises:
        ConfigError: an unknown connection or surrogate, or a compartment model without gradient.
    """

    @checked
    def __init__(
        self,
        source: Lowering | LoihiGraph,
        surrogate: str = "sigmoid",
        fixed: Collection[str] = (),
    ) -> None:
        super().__init__()
        stages = source if isinstance(source, Lowering) else None
        graph = source.graph if isinstance(source, Lowering) else source
        _check_fixed(graph, fixed)
        self.base, self.surrogate = graph, make_surrogate(surrogate)
        self._order = execution_order(graph)
        chip = chip_profile(graph.metadata.get("chip", "loihi2"))
        silent, readout, pools = integrators(graph), readout_node(graph), _pools(stages)
        scales = _scales(graph)
        self.populations = nn.ModuleDict()
        self._keys = {name: f"n{i}" for i, name in enumerate(graph.neurons)}
        for name, node in graph.neurons.items():
            self.populations[self._keys[name]] = QuantizedNeurons(
                node, scales.get(name), chip, name != readout, name not in (*silent, *pools)
            )
        ideal = _stored(graph) if stages is None else {**_stored(graph), **ideal_weights(stages)}
        self.links = nn.ModuleDict()
        self._keys |= {name: f"c{i}" for i, name in enumerate(graph.connections)}
        for name, connection in graph.connections.items():
            before, after = graph.ends[name]
            bits = graph.message_bits_into(name)
            self.links[self._keys[name]] = QuantizedConnection(
                connection,
                ideal[name],
                self.population(after).scale.detach(),
                (graph.shape_of(before), graph.shape_of(after)),
                (1 << bits) - 1 if bits else 1,
                name not in fixed and after not in pools,
            )

    def population(self, name: str) -> Any:
        """The module of a Neurons node."""
        return self.populations[self._keys[name]]

    def connection(self, name: str) -> Any:
        """The module of a connection."""
        return self.links[self._keys[name]]

    def graph(self) -> LoihiGraph:
        """The integer network of now."""
        nodes = dict(self.base.nodes)
        for name in self.base.neurons:
            nodes[name] = self.population(name).integers()
        for name, (_, after) in self.base.ends.items():
            nodes[name] = self.connection(name).integer_node(self.population(after).scale)
        return replace(self.base, nodes=nodes)

    def forward(self, spikes: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Scores of the classes by the graph's decision, with gradients; ``(batch, n_classes)``.

        ``count`` and ``score`` both give spikes plus membrane per threshold, ``membrane`` the membrane:
        the gradient needs the membrane, and predictions come from the integers themselves.

        Args:
            spikes: integers ``(n_steps, batch, *shape)``; a dict for several inputs.

        Raises:
            ConfigError: names, shapes or dtypes that do not fit.
            RangeError: values that an input does not carry.
        """
        given = spikes if isinstance(spikes, Mapping) else {next(iter(self.base.inputs)): spikes}
        check_inputs(
            self.base, {name: value.detach().cpu().numpy() for name, value in given.items()}
        )
        sent, last, _ = self._run(given)
        name = readout_node(self.base)
        scores: Tensor = last[name].v / self.population(name).constants().theta
        if decision_of(self.base) != "membrane":
            scores = scores + sent[name].sum(0)
        return scores.flatten(1)

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
        sent, last, states = self._run(inputs)
        variables = check_variables(record)
        nodes, counts = {}, {}
        for name in recorded_nodes(self.base, None):
            found = {"s": sent[name], "u": states[name].u, "v": states[name].v}
            kinds = {"s": np.uint8, "u": np.int32, "v": np.int32}
            nodes[name] = NodeRecording(
                **{key: found[key].cpu().numpy().astype(kinds[key]) for key in variables}
            )
            counts[name] = int(sent[name].sum())
        v_last = {name: state.v.cpu().numpy().astype(np.int32) for name, state in last.items()}
        return Recording(nodes, counts, v_last, meta={"engine": f"torch {torch.__version__}"})

    def _run(
        self, spikes: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, State], dict[str, State]]:
        """Spikes of all nodes, last states and recorded states of the populations."""
        sent: dict[str, Tensor] = {name: value.double() for name, value in spikes.items()}
        n_steps, batch = next(iter(sent.values())).shape[:2]
        last, states = {}, {}
        for component in self._order:
            run = _Component(self, component.names, sent, (n_steps, batch))
            for name, found in (run.looped() if component.looped else run.straight()).items():
                sent[name], last[name], states[name] = found
        return sent, last, states


class _Component:
    """One pass of populations that depend on each other."""

    def __init__(
        self,
        net: QuantizedNet,
        names: tuple[str, ...],
        sent: dict[str, Tensor],
        size: tuple[int, int],
    ) -> None:
        self.net, self.names, self.sent, self.size = net, names, sent, size
        device = net.population(names[0]).log_scale.device
        self.zeros = {
            name: torch.zeros(size[1], *net.base.shape_of(name), dtype=torch.float64, device=device)
            for name in names
        }

    def straight(self) -> dict[str, tuple[Tensor, State, State]]:
        """A population without a loop: all steps at once."""
        (name,) = self.names
        arriving = self._outside(name)
        return {name: self._advance(name, arriving, State(self.zeros[name], self.zeros[name]))}

    def looped(self) -> dict[str, tuple[Tensor, State, State]]:
        """Populations that feed each other: step by step."""
        outside = {name: self._outside(name) for name in self.names}
        state = {name: State(self.zeros[name], self.zeros[name]) for name in self.names}
        spikes: dict[str, list[Tensor]] = {name: [] for name in self.names}
        seen: dict[str, list[State]] = {name: [] for name in self.names}
        for t in range(self.size[0]):
            for name in self.names:
                a = outside[name][t : t + 1]
                for link in self._links(name, inside=True):
                    then = t - self.net.base.timing.slack[link]
                    if then >= 0:
                        source = spikes[self.net.base.ends[link][0]][then]
                        a = a + self._deliver(link, source.unsqueeze(0))
                s, state[name], states = self._advance(name, a, state[name])
                spikes[name].append(s[0])
                seen[name].append(states)
        return {
            name: (
                torch.stack(spikes[name]),
                state[name],
                State(*(torch.cat(each) for each in zip(*seen[name]))),
            )
            for name in self.names
        }

    def _links(self, name: str, inside: bool) -> list[str]:
        ends = self.net.base.ends
        return [
            link for link in self.net.base.incoming(name) if (ends[link][0] in self.names) == inside
        ]

    def _outside(self, name: str) -> Tensor:
        """What arrives from nodes that have run, ``(n_steps, batch, *shape)``."""
        total = torch.zeros(1, dtype=torch.float64, device=self.zeros[name].device)
        for link in self._links(name, inside=False):
            slack = self.net.base.timing.slack[link]
            source = self.sent[self.net.base.ends[link][0]]
            constant = source.stride(0) == 0 and slack == 0
            a = self._deliver(link, source[:1] if constant else source)
            if slack:
                a = torch.cat([torch.zeros_like(a[:slack]), a[: len(a) - slack]])[: self.size[0]]
            total = total + a
        return total.expand(*self.size, *self.net.base.shape_of(name))

    def _deliver(self, link: str, spikes: Tensor) -> Tensor:
        target = self.net.base.ends[link][1]
        found: Tensor = self.net.connection(link)(spikes, self.net.population(target).scale)
        return found

    def _advance(self, name: str, a: Tensor, state: State) -> tuple[Tensor, State, State]:
        population = self.net.population(name)
        constants = population.constants()
        return advance(a, state, constants, population.model, self.net.surrogate)


def _check_fixed(graph: LoihiGraph, fixed: Collection[str]) -> None:
    unknown = [name for name in fixed if name not in graph.connections]
    if unknown:
        findings = [f"'{name}' is not a connection" for name in unknown]
        known = ", ".join(graph.connections)
        raise ConfigError(bullet_list(f"fixed: expected some of {known}:", findings))


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


def _pools(stages: Lowering | None) -> tuple[str, ...]:
    """Populations that take the largest of some spikes, which lowering has made."""
    if stages is None or stages.settled is None:
        return ()
    nodes = stages.settled.graph.nodes.items()
    return tuple(name for name, node in nodes if (node.metadata or {}).get(LARGEST))
