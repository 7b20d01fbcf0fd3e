"""OwnNet: any module of snnTorch neurons as a network that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from biril_nm.arguments import checked
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models.carried import Unmarked, check_memory, positional_arguments
from biril_nm.models.folded import StepsRun
from biril_nm.models.links import Link, find_links
from biril_nm.models.loops import AXES, LOOPS, OwnLoop, given, is_of_all
from biril_nm.models.own_state import put_attribute
from biril_nm.models.returned import first_of
from biril_nm.models.running import (
    lasting_attributes,
    precision,
    run_all_steps,
    run_steps,
    step_graph,
)
from biril_nm.models.signals import is_constant, own_copy
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.models.tracing import UntraceableError, is_neuron, readout_name
from biril_nm.models.values import check_values

__all__ = ["TAKES", "OwnNet"]

ATTRIBUTE = "attribute/"  # before names of attributes in what a run keeps
TAKES = ("step", *LOOPS)
GIVEN = {
    "step": "one step at a time",
    "steps": "all steps at once",
    "samples": "all steps at once, behind the samples",
    "last": "all steps at once, as the last dimension",
    "image": "one step in all",
}


class OwnNet(SpikingNet):
    """A module of snnTorch neurons over time.

    Its forward takes one ``"step"`` of the input ``(batch, ...)`` and is called once per step; or all
    ``"steps"``, ``(n_steps, batch, ...)``, behind the ``"samples"``, ``(batch, n_steps, ...)``, or
    ``"last"``, ``(batch, ..., n_steps)``; or one ``"image"`` ``(batch, ...)``, which it shows at each step
    itself (direct coding). A further argument that it requires may be the number of steps. It returns
    spikes, or a tuple that begins with them: of one step, or of all steps, ``(n_steps, batch, n_classes)``
    or ``(batch, n_steps, n_classes)``; or what it has put together over the steps, ``(batch, n_classes)``.

    The score of a class is the spike count of its output neuron plus ``mem_last / threshold``; where the
    output is not the spikes of neurons, the sum of the output over the steps; where the forward has put the
    steps together, its output as it is, of which ``spikes`` then is the only step.

    Args:
        module: the network.
        coding: how values become its input.
        takes: one of these names; None: found out at the first input.

    Attributes:
        input_shape: shape of one step of its input; None until the first forward pass shows it.

    Raises:
        ConfigError: no snnTorch neurons in the module, weights without values (lazy layers), or
            ``takes`` is none of these.
    """

    @checked
    def __init__(self, module: nn.Module, coding: Coding, takes: str | None = None) -> None:
        super().__init__()
        self.name, self.coding, self.takes = type(module).__name__, coding, takes
        self.n_classes: int | None = None
        self.input_shape: tuple[int, ...] | None = None
        self._readout: str | None = None  # as the first input showed it
        self._gives = "steps"  # "samples": behind these; "scores": put together over the steps
        self._asks = False  # whether it requires the number of steps
        self.module = module
        if takes is not None and takes not in TAKES:
            raise ConfigError(f"takes is '{takes}'; expected one of {', '.join(TAKES)}")
        hidden = _hidden_layers(module)
        if not self.neurons and hidden:
            raise _unseen(self.name, next(iter(hidden)))
        if not self.neurons:
            raise ConfigError(
                f"{self.name} holds no neurons of snnTorch; expected a module with spiking neurons"
            )
        check_values(module, "it is trained or tested")

    @property
    def neurons(self) -> dict[str, Any]:
        """The neuron layers by name."""
        return {name: layer for name, layer in self.module.named_modules() if is_neuron(layer)}

    @property
    def readout_name(self) -> str | None:
        """Name of the neurons whose spikes a forward returns; None if they are not known yet."""
        try:
            return readout_name(step_graph(self.module), self.module)
        except UntraceableError:
            return self._readout

    def links(self) -> tuple[Link, ...]:
        """All weight layers with the populations that they join.

        Raises:
            ConfigError: they are not known, because one step of the forward cannot be traced.
        """
        try:
            return find_links(step_graph(self.module), self.module)
        except UntraceableError as error:
            raise ConfigError(
                f"the layers between the neurons of {self.name} are not known: {error}; expected a forward "
                f"of one step that depends on no value. Rewrite it, or use a schedule of B only"
            ) from error

    def forward(self, x: Tensor, record: bool | Iterable[str] = False) -> NetOutput:
        """Run all steps from rest.

        Args:
            x: input ``(n_steps, batch, *input_shape)``.
            record: True or the names of the populations whose spikes to return.

        Raises:
            ConfigError: the module does not return what is expected of it, or has no such population.
        """
        self.adapt(x)
        names = self.recorded_names(record)
        run = self._run(x, names)
        spikes = self._checked(run.output, x)
        membrane = torch.zeros_like(spikes[-1], dtype=x.dtype if x.is_floating_point() else None)
        if run.readout is not None:
            membrane = run.membranes[run.readout] / self.neurons[run.readout].threshold
        recorded = {"input": x, **run.recorded} if "input" in names else run.recorded
        return NetOutput(
            spikes, spikes.sum(dim=0, dtype=membrane.dtype) + membrane, membrane, recorded
        )

    def scored_steps(self, n_steps: int) -> int:
        """1 where the forward has put the steps together."""
        return 1 if self._gives == "scores" else n_steps

    def adapt(self, x: Tensor) -> None:
        """Find out what the forward takes and how many classes there are.

        Raises:
            ConfigError: the module does not return what is expected of it.
        """
        if self.n_classes is not None:
            return
        part = _some_samples(x)
        if self.takes is None:
            self.takes = self._found(part)
        try:
            with Unmarked(self.module), _all_seen(self.module), precision("float32"):
                found = self._run(own_copy(part), ())
                self._gives = self._form(found.output, part)
                if self._gives == "samples":  # its neurons are not known yet
                    found = self._run(own_copy(part), ())
        except (RuntimeError, ValueError, IndexError, TypeError) as error:  # of the user's forward
            raise ConfigError(
                f"the forward of {self.name} failed on input of shape {tuple(part.shape)}, of which it was "
                f"given {GIVEN[self.takes]}: {error}; expected a forward that takes it. {self._way_out()}"
            ) from error
        output, self._readout = self._checked(found.output, part), found.readout
        self._check_memory(part)
        self.n_classes, self.input_shape = int(output.shape[2]), tuple(x.shape[2:])

    def _form(self, output: Tensor, x: Tensor) -> str:
        """What a forward with a loop of its own gave for ``x``, of other numbers of steps and samples."""
        if self.takes == "step":
            return "steps"
        if output.ndim == 2 and len(output) == x.shape[1]:
            return "scores"
        turned = output.ndim == 3 and output.shape[:2] == (x.shape[1], x.shape[0])
        return "samples" if turned else "steps"

    def _checked(self, output: Tensor, x: Tensor) -> Tensor:
        """What the module returned for ``x``, if it is spikes of all steps and samples, or scores."""
        if self._gives == "scores" and output.ndim == 2 and len(output) == x.shape[1]:
            return output[None]
        if output.ndim != 3 or output.shape[:2] != x.shape[:2]:
            one = "(batch, n_classes)"
            if self.takes != "step":
                one = f"(n_steps, batch, n_classes) or {one}"
            shape = tuple(output.shape[1:] if self.takes == "step" else output.shape)
            raise ConfigError(
                f"{self.name} returns shape {shape} for {tuple(x.shape)}, of which it was given "
                f"{GIVEN[str(self.takes)]}; expected {one} first. {self._way_out()}"
            )
        return output

    def _check_memory(self, x: Tensor) -> None:
        """Refuse a step that forgets the one before; none that can be traced does."""
        try:
            step_graph(self.module)
        except UntraceableError:
            if self.takes == "step" and not positional_arguments(self.module)[1]:
                check_memory(self.module, x)

    def _way_out(self) -> str:
        others = " or ".join(f"'{name}'" for name in TAKES if name != self.takes)
        return f"If it takes something else, give OwnNet(net, coding, takes={others})"

    def statistics(self) -> dict[str, Tensor]:
        """Numbers and tensors in attributes that go on from run to run."""
        found = lasting_attributes(self.module)
        return {f"{ATTRIBUTE}{name}": value for name, value in found.items()}

    def take_statistics(self, kept: Mapping[str, Tensor]) -> None:
        """Give attributes the values of a checkpoint."""
        for name, value in kept.items():
            if name.startswith(ATTRIBUTE):
                put_attribute(self.module, name.removeprefix(ATTRIBUTE), value)

    def sample_of(self, x: Tensor) -> Tensor:
        """``x``, input ``(n_steps, batch, *input_shape)``, as one call of the module takes it."""
        takes = self._found(x) if self.takes is None else self.takes
        return given(x, takes)

    def _run(self, x: Tensor, names: Iterable[str]) -> StepsRun:
        if self.takes == "step":
            return run_steps(self.module, x, set(names))
        if self.takes == "image" and not is_constant(x) and bool((x[1:] != x[0]).any()):
            raise ConfigError(
                f"the forward of {self.name} takes one image for all steps, and the input differs from step "
                f"to step; expected the same at each step. Use coding 'direct'. {self._way_out()}"
            )
        takes, gives = str(self.takes), self._gives

        def arguments(steps: Tensor) -> tuple[Any, ...]:
            return given(steps, takes), *self._further(len(steps))

        def arranged(output: Tensor) -> Tensor:
            return output.movedim(1, 0) if gives == "samples" and output.ndim > 1 else output

        return run_all_steps(
            self.module, x, set(names), OwnLoop(arguments, arranged, (takes, gives))
        )

    def _found(self, x: Tensor) -> str:
        """What the forward takes: it loops if it calls its neurons once per step."""
        if x.shape[0] == 1:
            return self._found_of_one(x)
        try:
            step_graph(self.module)
        except UntraceableError:
            for asks in self._asking():
                self._asks = asks
                found = {takes: self._fits(takes, x) for takes in LOOPS}
                ways = [takes for takes, fits in found.items() if fits]
                if not asks:  # what it returns may be refused, which says more
                    ways += [takes for takes, fits in found.items() if fits is False]
                if ways:
                    return ways[0]
            self._asks = False
        return "step"

    def _fits(self, takes: str, x: Tensor) -> bool | None:
        """Whether what it returns for ``x`` given so is of all steps and samples; None: it runs others."""
        n_steps, batch = x.shape[:2]
        calls, shape = self._tried(given(x, takes), n_steps)
        if calls != n_steps:
            return None
        if takes in AXES and self._calls(given(x[1:], takes), n_steps - 1) not in (0, n_steps - 1):
            return None
        if (
            self._asks
        ):  # fewer steps than there are: a layer that takes any dimensions may hide them
            calls, fewer = self._tried(given(x, takes), n_steps - 1)
            if calls != n_steps - 1 or not is_of_all(fewer, n_steps - 1, batch):
                return False
        return is_of_all(shape, n_steps, batch)

    def _found_of_one(self, x: Tensor) -> str:
        """The same where there is one step: a loop over more steps, else the shape of the output."""
        longer = [x.expand(n, *x.shape[1:]) for n in (3, 2)]
        for asks in self._asking():
            self._asks = asks
            for takes in LOOPS if asks else AXES:
                runs = [self._calls(given(v, takes), len(v)) == len(v) for v in longer]
                if all(runs) and (not asks or all(self._fits(takes, v) for v in longer)):
                    return takes
        self._asks = False
        x = x.expand(1, 2, *x.shape[2:]) if x.shape[1] == 1 else x
        batch, shape = x.shape[1], self._tried(x[0], 1)[1]
        if shape[:1] == (batch,) and len(shape) == 2:
            return "step"
        if shape[:2] == (1, batch) and len(shape) == 3:
            return "image"
        return "steps" if self._tried(x, 1)[1][:2] == (1, batch) else "step"

    def _asking(self) -> tuple[bool, ...]:
        """Whether its forward may require the number of steps: where it requires one argument more."""
        return (False, True) if len(self._further(None)) == 1 else (False,)

    def _further(self, count: int | None) -> list[int | None]:
        """What stands for the arguments that the forward requires behind the first."""
        required = positional_arguments(self.module)[0]
        return [count if self._asks else None] * max(0, len(required) - 1)

    def _calls(self, x: Tensor, n_steps: int) -> int:
        """How often a forward calls the neurons that it calls most; 0 if it fails."""
        return self._tried(x, n_steps)[0]

    def _tried(self, x: Tensor, n_steps: int) -> tuple[int, tuple[int, ...]]:
        """How often a forward calls the neurons that it calls most, and the shape of its output."""
        counts = dict.fromkeys(self.neurons, 0)

        def counter(name: str) -> Callable[..., None]:
            def count(*_: Any) -> None:
                counts[name] += 1

            return count

        with Unmarked(self.module):
            handles = [n.register_forward_hook(counter(k)) for k, n in self.neurons.items()]
            try:
                output = self.module(x.clone(), *self._further(n_steps))
                output = first_of(list(output.values()) if isinstance(output, dict) else output)
                return max(counts.values()), tuple(output.shape)
            except Exception:  # of the user's forward: it does not take this
                return 0, ()
            finally:
                for handle in handles:
                    handle.remove()

    def extra_repr(self) -> str:
        """What it takes, for ``repr``."""
        return f"takes {self.takes or 'step, steps or image'}, {self.coding}"


def _hidden_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Layers in plain lists, tuples and dicts, by the name of these, that torch does not see."""
    known = set(net.modules())
    found: dict[str, nn.Module] = {}
    for name, module in net.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, (list, tuple, dict)) and not attribute.startswith("_"):
                items = value.values() if isinstance(value, dict) else value
                layers = [v for v in items if isinstance(v, nn.Module) and v not in known]
                found |= {f"{name}.{attribute}".removeprefix("."): layer for layer in layers}
    return found


def _unseen(name: str, place: str) -> ConfigError:
    return ConfigError(
        f"'{place}' of {name} holds layers in a plain list, tuple or dict, where torch does not see them, so "
        f"that they would not learn; expected nn.ModuleList or nn.ModuleDict. Put them into one"
    )


@contextmanager
def _all_seen(net: nn.Module) -> Iterator[None]:
    """Refuse a forward that calls layers which torch does not see.

    Raises:
        ConfigError: it calls one.
    """
    called: list[str] = []

    def note(place: str) -> Callable[..., None]:
        return lambda *_: called.append(place)

    hidden = _hidden_layers(net)
    handles = [layer.register_forward_pre_hook(note(place)) for place, layer in hidden.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if called:
        raise _unseen(type(net).__name__, called[0])


def _some_samples(x: Tensor) -> Tensor:
    """A few samples of ``x``, ``(n_steps, batch, ...)``: another number than that of the steps."""
    found = x[:, : 3 if len(x) == 2 else 2]
    return found if found.shape[1] != len(x) else x[:, :1].expand(-1, len(x) + 1, *x.shape[2:])
