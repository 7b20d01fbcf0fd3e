"""What engine ``torch`` runs: a torch network, its spikes recorded under the names of the integer graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import snntorch
import torch
from numpy.typing import ArrayLike
from torch import nn

from biril_nm.coding import Coding, check_decision
from biril_nm.decision import DEFAULT_DECISION, class_scores
from biril_nm.engines.registry import IntegerNet, Network, RunOptions
from biril_nm.errors import BirilError, ConfigError
from biril_nm.export.from_torch.runs import call_arguments
from biril_nm.hw_graph.inputs import check_inputs, input_coding, single_input
from biril_nm.hw_graph.outputs import integrators
from biril_nm.models import BirilNet, OwnNet
from biril_nm.models.carried import carried_states, positional_arguments, states_of
from biril_nm.models.own_state import OwnState
from biril_nm.models.returned import first_of
from biril_nm.models.wrappers import module_of, unwrapped
from biril_nm.recording import NodeRecording, Recording
from biril_nm.recording.readout import decision_of, readout_node

__all__ = ["run_network", "run_torch", "taken_at_once"]

STEP, IMAGE, TIME_FIRST, SAMPLES_FIRST, TIME_LAST = WAYS = (
    "step", "image", "(n_steps, batch, ...)", "(batch, n_steps, ...)", "(batch, ..., n_steps)",
)  # fmt: skip
_LAYERS = (snntorch.SpikingNeuron, nn.Linear, nn.Conv1d, nn.Conv2d)


def run_torch(
    net: nn.Module,
    spikes: ArrayLike,
    coding: Coding | None = None,
    decision: str | None = None,
    integrators: Collection[str] = (),
    readout: str | None = None,
) -> Recording:
    """Run ``net`` on the chip's integer input and record every snnTorch neuron layer.

    A forward that computes one step is called once per step. A forward with its own loop over time
    is called once: with all steps, or with one image if it takes one image for all steps.

    Args:
        net: a BirilNet, or a module as :func:`biril_nm.export.to_nir` takes it.
        spikes: integers ``(n_steps, batch, *shape)``.
        coding: scale of graded input; a BirilNet knows its own.
        decision: how the output decides; None: by score in a BirilNet, by count elsewhere.
        integrators: neuron layers whose membrane is read and whose spikes nothing uses; they count as
            silent, as they are on the chip.
        readout: the layer that decides; None: the last one.

    Returns:
        Spikes of every neuron layer, uint8. ``scores`` are those of the deciding neurons by ``decision``
        (:func:`biril_nm.decision.class_scores`); where it is no neurons that decide (a linear layer, a vote
        of neurons), what the forward returned first, summed over the steps if it did not do so itself.

    Raises:
        ConfigError: the network has no snnTorch neurons, its own loop runs another number of steps, or
            the decision is unknown.
    """
    net = unwrapped(net)
    if isinstance(net, OwnNet):
        coding, net = (net.coding if coding is None else coding), module_of(net)
    own = BirilNet.decision if isinstance(net, BirilNet) else DEFAULT_DECISION
    decision = check_decision(own if decision is None else decision)
    root = net.layers if isinstance(net, BirilNet) else net
    scale = net.config.coding if isinstance(net, BirilNet) else coding or Coding("spikes", 1)
    recorder = _Recorder(root)
    if not recorder.neurons:
        raise ConfigError(
            f"{type(net).__name__} has no snnTorch neurons; expected at least one layer of them"
        )
    parameter = next(root.parameters(), torch.zeros(0))
    values = torch.from_numpy(scale.to_float(spikes)).to(parameter)
    carried = _carried(root, values)
    with recorder.attached(), torch.no_grad():
        outputs = _drive(root, values, recorder, carried)
    if readout in recorder.neurons:
        recorder.last = str(readout)
    elif readout is not None:
        recorder.scores = _summed(outputs, *values.shape[:2])
    return recorder.result(len(values), decision, integrators)


def _carried(root: nn.Module, values: torch.Tensor) -> int | ConfigError:
    """How many states a forward of one step carries, as in training; or why that is not known."""
    required, optional = positional_arguments(root)
    try:
        return carried_states(root, values) if len(required) + len(optional) > 1 else 0
    except ConfigError as error:  # which counts only if the forward computes one step
        return error


def _drive(
    root: nn.Module, values: torch.Tensor, recorder: _Recorder, carried: int | ConfigError
) -> list[Any]:
    """Call ``root`` step by step, or once if its forward loops over time; what it returned."""
    way, asks = _way(root, values, recorder)
    recorder.restart()
    if way != STEP:
        return [root(*_arguments(root, values, way, len(values) if asks else None))]
    if isinstance(carried, ConfigError):
        raise carried
    results: list[Any] = []
    for value in values:
        states = states_of(root, results[-1], carried) if results else ()
        results.append(root(value, *states) if results else root(*call_arguments(root, [value])))
    return results


def _summed(outputs: Sequence[Any], n_steps: int, batch: int) -> Any:
    """The first result of each call, summed over the steps; None where it is not known what it is of."""
    found = [first_of(list(o.values()) if isinstance(o, Mapping) else o) for o in outputs]
    if not all(isinstance(one, torch.Tensor) for one in found):
        return None
    whole = found[0]
    if len(found) > 1:
        whole = torch.stack(found).sum(0)
    elif whole.ndim > 2 and whole.shape[:2] in ((n_steps, batch), (batch, n_steps)):
        if n_steps == batch > 1:
            return None
        whole = whole.sum(0 if len(whole) == n_steps else 1)
    if whole.ndim < 2 or len(whole) != batch:
        return None
    return whole.double().flatten(1).cpu().numpy()


def taken_at_once(net: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """What the forward of ``net`` takes of ``values``: one step, an image, or all steps in its order.

    Raises:
        ConfigError: in no way does it run as many steps as there are.
    """
    recorder = _Recorder(net)
    with recorder.attached(), torch.no_grad():
        return _given(values, _way(net, values, recorder)[0])


def _given(values: torch.Tensor, way: str) -> torch.Tensor:
    """All steps, or the first one, in the order of dimensions that a forward takes."""
    if way in (STEP, IMAGE):
        return values[0]
    return values if way == TIME_FIRST else values.movedim(0, 1 if way == SAMPLES_FIRST else -1)


def _arguments(root: nn.Module, values: torch.Tensor, way: str, count: int | None) -> Any:
    """Arguments of a call; ``count`` is what stands for one that the forward requires behind its input."""
    given = _given(values, way)
    return call_arguments(root, [given]) if count is None else (given, count)


def _way(root: nn.Module, values: torch.Tensor, recorder: _Recorder) -> tuple[str, bool]:
    """How the forward takes its input, found by trials on a number of samples that tells them from steps;
    and whether it asks for the number of steps.

    Raises:
        ConfigError: in no way does it run as many steps as there are.
    """
    n_steps, batch = values.shape[:2]
    trials = _Trials(root, recorder)
    for asks in (False, True)[: 1 + (len(positional_arguments(root)[0]) == 2)]:
        trials.asks = asks
        for size in dict.fromkeys(
            (3 if n_steps == 2 else 2, batch)
        ):  # it may take this batch alone
            some = values[:, torch.arange(size) % batch]
            # A forward with a loop may take one step as well, for which it starts from rest.
            first, second = ((STEP,), WAYS[1:])[:: 1 if n_steps == 1 else -1]
            fits = trials.of(first, some) or trials.of(second, some)
            if len(fits) > 1:  # as many steps as values, perhaps
                fits = trials.of(fits, torch.cat([some, some[:1]])) or fits
            for way in fits:
                if way != IMAGE or bool(torch.all(values == values[0])):
                    return way, asks
                trials.shows = True
    raise trials.refusal(values)


class _Trials:
    """Calls of a forward with its input in several orders."""

    def __init__(self, root: nn.Module, recorder: _Recorder) -> None:
        self.root, self.recorder = root, recorder
        self.asks = False  # whether the number of steps is given behind the input
        self.shows = False  # whether it takes one image for all steps
        self.ran: set[int] = set()
        self.failure: Exception | None = None

    def of(self, ways: Sequence[str], values: torch.Tensor) -> list[str]:
        """Those of the ways in which it runs as many steps on as many samples as there are."""
        n_steps, size = values.shape[:2]
        fits = []
        for way in ways:
            self.recorder.restart()
            try:
                self.root(*_arguments(self.root, values, way, n_steps if self.asks else None))
                calls, alike = self.recorder.most_calls(), not self.asks or self._alike(values, way)
            except Exception as error:  # whatever the user's forward raises
                self.failure = self.failure or error
                continue
            if calls == (1 if way == STEP else n_steps) and self.recorder.sent_for(size) and alike:
                fits.append(way)
            elif way == TIME_FIRST:
                self.ran.add(calls)
        return fits

    def _alike(self, values: torch.Tensor, way: str) -> bool:
        """Whether neurons send as much where one step more is given than asked for.

        They do not where layers take all steps in each, as a Linear does, which takes any dimensions.
        """
        before = self.recorder.sizes()
        self.recorder.restart()
        longer = torch.cat([values, values[:1]])
        self.root(*_arguments(self.root, longer, way, len(values)))
        return way != STEP and self.recorder.sizes() == before

    def refusal(self, values: torch.Tensor) -> Exception:
        """Why no way was found."""
        name = type(self.root).__name__
        if self.shows:
            return ConfigError(
                f"the forward of {name} takes one image for all steps, and the input differs from step to "
                f"step; expected the same at each step. Use coding 'direct'"
            )
        if self.ran:
            steps = ", ".join(map(str, sorted(self.ran)))
            return ConfigError(
                f"the forward of {name} runs {steps} steps on input of {len(values)}. Give it as many steps "
                f"as its loop has"
            )
        if isinstance(self.failure, BirilError):
            return self.failure
        return ConfigError(
            f"the forward of {name} does not take an input of shape {tuple(values.shape)} "
            f"({self.failure}); expected a forward of one step (batch, *shape), or of all steps with their "
            f"dimension first, behind the samples or last. Put its input in order in the module itself"
        )


class _Recorder:
    """Stores what every neuron layer, and the last layer of all, has sent."""

    def __init__(self, root: nn.Module) -> None:
        self.root, self.own = root, OwnState(root)
        self.neurons: dict[str, Any] = {
            name: layer
            for name, layer in root.named_modules()
            if isinstance(layer, snntorch.SpikingNeuron)
        }
        inner = [m for n in self.neurons.values() for m in n.modules() if m is not n]
        self.layers = {
            name: layer
            for name, layer in root.named_modules()
            if isinstance(layer, _LAYERS) and not any(layer is m for m in inner)
        }
        self.restart()

    def restart(self) -> None:
        """Forget what was recorded, clear the states of the neurons, and put attributes back."""
        self.own.restore()
        self.steps: dict[str, list[torch.Tensor]] = {}
        self.last, self.scores = "", cast(Any, None)
        for layer in self.neurons.values():
            _rest(layer)

    def most_calls(self) -> int:
        """Calls of the neuron layer that was called most often."""
        return max((len(self.steps.get(name, ())) for name in self.neurons), default=0)

    def sizes(self) -> dict[str, list[torch.Size]]:
        """Shapes of all that was sent."""
        return {name: [sent.shape for sent in steps] for name, steps in self.steps.items()}

    def sent_for(self, size: int) -> bool:
        """Whether the neuron layer that was called most often sent spikes of that many samples."""
        most = max(self.neurons, key=lambda name: len(self.steps.get(name, ())))
        return all(sent.ndim > 1 and len(sent) == size for sent in self.steps.get(most, ()))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Set hooks on all layers and eval mode; undo both at the end."""

        def record(name: str) -> Callable[..., None]:
            def hook(_layer: nn.Module, _args: Any, output: Any) -> None:
                sent = output[0] if isinstance(output, tuple) else output
                # A copy, as the forward may change it in place.
                self.steps.setdefault(name, []).append(sent.detach().clone())
                self.last = name

            return hook

        handles = [layer.register_forward_hook(record(name)) for name, layer in self.layers.items()]
        was_training = self.root.training
        try:
            self.root.eval()
            yield
        finally:
            self.own.restore()
            self.root.train(was_training)
            for handle in handles:
                handle.remove()

    def result(self, n_steps: int, decision: str, integrators: Collection[str]) -> Recording:
        """Recording and scores of the finished run."""
        recorded = {
            name: torch.stack(self.steps[name]).cpu().numpy().astype(np.uint8)
            for name in self.neurons
            if len(self.steps.get(name, ())) == n_steps
        }
        recorded.update({n: np.zeros_like(recorded[n]) for n in integrators if n in recorded})
        if self.scores is not None:
            scores = self.scores
        elif self.last in recorded:
            layer = self.neurons[self.last]
            mem, threshold = (x.detach().double().cpu() for x in (layer.mem, layer.threshold))
            if isinstance(layer, snntorch.Leaky) and layer.reset_mechanism == "zero":
                mem = torch.where(mem > threshold, 0.0, mem)  # which snnTorch does one step late
            spikes = recorded[self.last]
            flat = spikes.reshape(*spikes.shape[:2], -1)
            membrane = (mem / threshold).expand(spikes.shape[1:]).reshape(flat.shape[1:]).numpy()
            scores = class_scores(decision, flat, membrane, 1)
        else:
            scores = torch.stack(self.steps[self.last]).double().sum(dim=0).cpu().numpy()
        return Recording(
            {name: NodeRecording(s=spikes) for name, spikes in recorded.items()},
            n_spikes={name: int(spikes.sum()) for name, spikes in recorded.items()},
            meta={"engine": f"torch {torch.__version__}"},
            scores=scores,
        )


def _rest(layer: Any) -> None:
    """Clear the hidden states of one neuron layer; they take the shape of the next input."""
    for name in ("mem", "syn", "spk"):
        if isinstance(getattr(layer, name, None), torch.Tensor):
            setattr(layer, name, torch.zeros(0, device=getattr(layer, name).device))


def run_network(network: Network, spikes: Any, options: RunOptions) -> Recording:
    """The torch network, with the graph's coding of its only input; or one that computes integers."""
    if isinstance(network.net, IntegerNet):
        found: Recording = network.net.run_integers(spikes, options.record)
        return found
    name = single_input(network.graph)
    values = check_inputs(network.graph, spikes)
    graph = network.graph
    coding, decision = input_coding(graph, name), decision_of(graph)
    net = cast(nn.Module, network.net)
    return run_torch(net, values[name], coding, decision, integrators(graph), readout_node(graph))
