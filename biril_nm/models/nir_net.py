"""``NirNet``: layers and neurons that are called in the order of a NIR graph."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from biril_nm.errors import ConfigError

__all__ = ["CONSTANTS", "NirNet", "Part", "make_net"]

Signals = dict[str, torch.Tensor]
# Suffix of the buffer -> what it does to the input.
CONSTANTS: dict[str, Any] = {"gain": torch.mul, "drive": torch.add}


@dataclass(frozen=True)
class Part:
    """One node: what it is called with, and by which name.

    Attributes:
        name: of the node.
        attribute: of the network that holds its module; empty for inputs and outputs.
        sources: nodes whose sum it receives.
        late: those of them whose values of the previous step it receives.
        shape: that it receives.
        membrane: whether it gives v instead of spikes.
        facts: metadata of an input: the coding of its values.
    """

    name: str
    attribute: str
    sources: tuple[str, ...]
    late: frozenset[str]
    shape: tuple[int, ...]
    membrane: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class NirNet(nn.Module):
    """One time step of a NIR graph: ``forward(x)`` takes ``(batch, *shape)``, one tensor for each input.

    Neurons keep their state from step to step; :meth:`reset` brings all to rest, and :meth:`run` takes whole
    samples. Layers are attributes, called as the nodes. Inputs are the values that the graph receives:
    messages of the chip divided by the ``scale`` of their coding, which
    :func:`biril_nm.export.to_nir` writes again.
    """

    def __init__(
        self, parts: Sequence[Part], modules: Mapping[str, nn.Module], buffers: Signals, dtype: Any
    ) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.inputs = tuple(p.name for p in parts if not p.sources and not p.attribute)
        self.outputs = tuple(p.name for p in parts if p.sources and not p.attribute)
        self.before: Signals = {}
        for name, module in modules.items():
            self.add_module(name, module.to(dtype))
        for name, value in buffers.items():
            self.register_buffer(name, value.to(dtype))

    def input_facts(self) -> list[dict[str, Any]]:
        """Metadata of the inputs, in their order."""
        known = {part.name: dict(part.facts) for part in self.parts}
        return [known[name] for name in self.inputs]

    def forward(self, x: torch.Tensor) -> Any:
        """Spikes ``(batch, *shape)`` of the output, or v of an integrator; a dict by name for several."""
        return self.step(x)

    def step(self, *signals: torch.Tensor) -> Any:
        """One time step.

        Raises:
            ConfigError: not one tensor for each input, or another batch than at the step before.
        """
        if len(signals) != len(self.inputs):
            raise ConfigError(
                f"a step has {len(signals)} tensors; expected {len(self.inputs)}, for "
                f"{', '.join(self.inputs)}. Pass one for each input, in this order"
            )
        now: Signals = dict(zip(self.inputs, signals))
        for part in self.parts:
            if part.name in now:
                continue
            terms = [self._value(source, part, now, signals[0]) for source in part.sources]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            now[part.name] = self._applied(part, total) if part.attribute else total
        kept = {source for part in self.parts for source in part.late}
        self.before = {name: now[name] for name in kept}
        found = {name: now[name] for name in self.outputs}
        return found if len(found) > 1 else next(iter(found.values()))

    def _value(self, source: str, part: Part, now: Signals, like: torch.Tensor) -> torch.Tensor:
        if source not in part.late:
            return now[source]
        if source in self.before:
            before = self.before[source]
            if len(before) != len(like):
                raise ConfigError(
                    f"the batch of this step is {len(like)}; expected {len(before)}, as at the step before. "
                    f"Call reset() before other samples"
                )
            return before
        return torch.zeros(len(like), *part.shape, dtype=like.dtype, device=like.device)

    def _applied(self, part: Part, x: torch.Tensor) -> torch.Tensor:
        """Gain and constant drive of neurons, then the layer."""
        for suffix, apply in CONSTANTS.items():
            constant = getattr(self, f"{part.attribute}_{suffix}", None)
            x = x if constant is None else apply(x, constant)
        found: Any = getattr(self, part.attribute)(x)
        signal: torch.Tensor = (
            found[-1 if part.membrane else 0] if isinstance(found, tuple) else found
        )
        # Spikes of snnTorch have 32 bits whatever the network has.
        return signal if signal.dtype == x.dtype else signal.to(x.dtype)

    def reset(self) -> None:
        """Bring all neurons to rest, and forget what loops carry."""
        self.before = {}
        for module in self.children():
            if hasattr(module, "reset_mem"):
                module.reset_mem()

    def run(self, x: Any) -> Any:
        """Whole samples from rest: ``(n_steps, batch, *shape)`` to the same of the output.

        Args:
            x: a tensor, or one for each input in a dict by name.

        Raises:
            ConfigError: other names, shapes or numbers of steps than the inputs have.
        """
        given = self._checked(x)
        self.reset()
        steps = [self.step(*values) for values in zip(*(given[name] for name in self.inputs))]
        if not isinstance(steps[0], dict):
            return torch.stack(steps)
        return {name: torch.stack([step[name] for step in steps]) for name in self.outputs}

    def _checked(self, x: Any) -> Signals:
        """Whole samples by the names of the inputs."""
        given = dict(x) if isinstance(x, Mapping) else {self.inputs[0]: x}
        if set(given) != set(self.inputs):
            raise ConfigError(
                f"the inputs of this run are {', '.join(map(str, given))}; expected "
                f"{', '.join(self.inputs)}. Pass a dict with one tensor for each"
            )
        sizes: dict[str, tuple[int, ...]] = {}
        for part in self.parts:
            if part.name not in given:
                continue
            value, form = given[part.name], ", ".join(map(str, ("n_steps", "batch", *part.shape)))
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else None
            if found is None or found[2:] != part.shape or len(found) < 2 or not found[0]:
                what = f"of shape {found}" if found is not None else f"a {type(value).__name__}"
                raise ConfigError(
                    f"input '{part.name}' is {what}; expected a tensor ({form}) of one step or more. "
                    f"Give it this shape"
                )
            sizes[part.name] = found[:2]
        if len(set(sizes.values())) > 1:
            raise ConfigError(
                f"the inputs have these steps and samples: {sizes}; expected the same for all. Cut the longer"
            )
        return given


class SeveralInputs(NirNet):
    """A :class:`NirNet` whose forward has one argument for each input, called as the input."""

    @property
    def forward(self) -> Any:  # type: ignore[override]
        """One time step, of one tensor for each input."""

        def forward(*signals: torch.Tensor) -> Any:
            return self.step(*signals)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        names: list[str] = []
        for name in self.inputs:
            free = _identifier(name)
            while free in names:
                free = f"{free}_"
            names.append(free)
        arguments = [inspect.Parameter(name, kind) for name in names]
        forward.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
        return forward


def make_net(
    parts: Sequence[Part], modules: Mapping[str, nn.Module], buffers: Signals, dtype: Any
) -> NirNet:
    """A network of these parts; one with several inputs has an argument of forward for each."""
    names = [part.name for part in parts if not part.sources and not part.attribute]
    kind = NirNet if len(names) == 1 else SeveralInputs
    return kind(parts, modules, buffers, dtype)


def _identifier(name: str) -> str:
    plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return plain if plain.isidentifier() else f"input_{plain}"
