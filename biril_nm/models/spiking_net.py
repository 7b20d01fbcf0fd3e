"""SpikingNet: what :func:`biril_nm.training.fit` trains and :func:`biril_nm.training.evaluate` tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from biril_nm.arguments import Seed, checked
from biril_nm.coding import Coding, check_decision
from biril_nm.decision import class_scores
from biril_nm.display import brief_fields
from biril_nm.errors import ConfigError
from biril_nm.models.links import INPUT, Link

__all__ = ["NetOutput", "SpikingNet", "encode"]

DECISION = "score"


@brief_fields
@dataclass(frozen=True)
class NetOutput:
    """What a forward pass returns.

    Shape:
        spikes ``(n_steps, batch, n_classes)``; scores ``(batch, n_classes)``: spike count plus
        ``mem_last / threshold``, the decision ``score`` on which networks are trained
        (:mod:`biril_nm.decision`); membrane ``(batch, n_classes)``: ``mem_last / threshold``;
        recorded: population name to spikes ``(n_steps, batch, *shape)``, and ``"input"`` to the
        input.
    """

    spikes: Tensor
    scores: Tensor
    membrane: Tensor
    recorded: dict[str, Tensor] = field(default_factory=dict)

    @property
    def predictions(self) -> Tensor:
        """Class with the highest score, the first one of equals. Shape (batch,)."""
        return self.scores.argmax(dim=-1)

    def decide(self, decision: str) -> Tensor:
        """Class that wins by ``decision``, one of :data:`biril_nm.coding.DECISIONS`. Shape (batch,).

        Raises:
            ConfigError: an unknown decision.
        """
        if check_decision(decision) == DECISION:
            return self.predictions
        spikes, membrane = (x.detach().cpu().numpy() for x in (self.spikes, self.membrane))
        found = class_scores(decision, spikes, membrane, 1)
        return torch.from_numpy(found.argmax(axis=-1)).to(self.scores.device)


class SpikingNet(nn.Module):
    """A network over time with a decision: the one interface of training.

    A subclass gives the attributes and :meth:`forward`; :meth:`links` where layers are to learn by a
    local rule.

    Attributes:
        name: what messages call it.
        decision: how its output decides, on which the losses are made (:mod:`biril_nm.decision`).
        coding: how values become its input.
        n_classes: number of classes; None until the first forward pass shows it.
        exact: whether it computes in the chip's integers, in a way of its own.
        engines: whether engine, precision and checkpoint_steps of a training change how it computes.
    """

    decision: ClassVar[str] = DECISION
    exact: ClassVar[bool] = False
    engines: ClassVar[bool] = True
    name: str
    coding: Coding
    n_classes: int | None

    @property
    def neurons(self) -> Mapping[str, Any]:
        """The populations by name, in order; the last one is the readout."""
        raise NotImplementedError

    @property
    def readout_name(self) -> str | None:
        """Name of the population whose spikes are the output, None if it is something else."""
        return list(self.neurons)[-1]

    def links(self) -> tuple[Link, ...]:
        """All weight layers with the populations that they join.

        Raises:
            ConfigError: they are not known.
        """
        raise NotImplementedError

    def recorded_names(self, record: bool | Iterable[str]) -> set[str]:
        """What ``record`` means: True is all populations and ``"input"``.

        Raises:
            ConfigError: a name that is neither.
        """
        known = (INPUT, *self.neurons)
        wanted = set(known) if record is True else set(record or ())
        unknown = [record] if isinstance(record, str) else sorted(wanted.difference(known))
        if unknown:
            raise ConfigError(
                f"record is {unknown!s:.80}; expected True, or a list of some of {', '.join(known)}. "
                f"Leave out other names"
            )
        return wanted

    def adapt(self, x: Tensor) -> None:
        """Find out from an input what is not known of the network yet."""

    def scored_steps(self, n_steps: int) -> int:
        """Over how many of the steps of an input its scores are summed."""
        return n_steps

    def constrain(self) -> None:
        """Put parameters back into their bounds; called after each update."""

    def statistics(self) -> dict[str, Tensor]:
        """What training has changed beside parameters and buffers, by name, for a checkpoint."""
        return {}

    def take_statistics(self, kept: Mapping[str, Tensor]) -> None:
        """Take back those of :meth:`statistics` among the tensors of a checkpoint."""

    def identity(self) -> dict[str, Any]:
        """Plain values that a checkpoint of another network does not have."""
        return {"network": self.name, "coding": asdict(self.coding)}

    def forward(self, x: Tensor, record: bool | Iterable[str] = False) -> NetOutput:
        """Run all steps from rest.

        Args:
            x: input ``(n_steps, batch, *input_shape)``, as :meth:`encode` gives it.
            record: True or the names of the populations whose spikes to return, ``"input"`` too.
        """
        raise NotImplementedError

    def write(self, folder: Path) -> bool:
        """Write what training made of the network in a form of its own; False: it has none."""
        del folder
        return False

    def encode(self, values: ArrayLike, seed: Seed = 0) -> Tensor:
        """Input of the net for values in 0..1, through its coding, on its device.

        Shape:
            ``(batch, *input_shape)`` to ``(n_steps, batch, *input_shape)``.
        """
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        return encode(self.coding, values, seed).to(device)


@checked
def encode(coding: Coding, values: ArrayLike, seed: Seed = 0) -> Tensor:
    """Float input ``(n_steps, batch, *shape)``; direct coding expands one step (stride 0)."""
    message = coding.encode(values, seed)
    if coding.kind == "direct":
        step = torch.from_numpy(coding.to_float(message[0]))
        return step.expand(coding.n_steps, *step.shape)
    return torch.from_numpy(coding.to_float(message))
