"""What the caller of :func:`biril_nm.export.lower` decides, checked in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from biril_nm.arguments import Seed, checked
from biril_nm.coding import check_decision
from biril_nm.errors import ConfigError, RangeError
from biril_nm.export.lowering.numbers.weight_grid import AUTO, SCALE_SEARCHES
from biril_nm.export.lowering.passes.integration import INTEGRATIONS
from biril_nm.export.lowering.passes.settle import READOUTS
from biril_nm.export.lowering.passes.settle_resets import RESETS
from biril_nm.export.nir_nodes.metadata import step_width
from biril_nm.loihi import LOIHI2, WEIGHT_BITS, ChipProfile, chip_profile

__all__ = ["LoweringOptions"]


@checked
@dataclass(frozen=True)
class LoweringOptions:
    """Options of one lowering; the keyword arguments of :func:`lower` are these fields.

    Attributes:
        chip: register limits.
        dt_s: width of a step in seconds; None: the file says.
        weight_bits: bits per weight, 1 to 8; connections from graded input keep 8. Or connection -> bits,
            where ``"*"`` stands for all others (8 if it is missing).
        reset: where the file does not say it, ``"zero"`` says that spikes set v to 0, ``"subtract"`` that
            they take the threshold from v; ``"force-zero"`` changes what the file says into zero.
        calibration: chip input ``(n_steps, batch, *shape)``, or a dict of them for several inputs.
        seed: stored in the metadata for stages with random numbers; lowering itself has none.
        readout: ``"accumulate"`` sums the output of a last linear layer over the steps.
        scale_search: ``"max"``, ``"percentile"`` or ``"mse"``; ``"auto"``: ``"mse"`` below 5 bits, else
            ``"max"``.
        split_mixed: give weights of both signs two connections.
        if_integration: ``"per_step"`` or ``"continuous"``, for IF and I whose r is neither 1 nor 1/dt.
        decision: how the output decides (:mod:`biril_nm.decision`); None: the file says.

    Raises:
        ConfigError: a field holds something that it cannot mean.
        RangeError: ``weight_bits`` is out of range.
    """

    chip: ChipProfile | str = LOIHI2
    dt_s: float | None = None
    weight_bits: int | Mapping[str, int] = WEIGHT_BITS
    reset: str | None = None
    calibration: ArrayLike | Mapping[str, ArrayLike] | None = field(
        default=None, compare=False, repr=False
    )
    seed: Seed = 0
    readout: str | None = None
    scale_search: str = AUTO
    split_mixed: bool = False
    if_integration: str | None = None
    decision: str | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        chip_profile(self.chip)
        _check_choice("reset", self.reset, (None, *RESETS))
        _check_choice("readout", self.readout, (None, *READOUTS))
        _check_choice("if_integration", self.if_integration, (None, *INTEGRATIONS))
        if self.decision is not None:
            check_decision(self.decision)
        _check_choice("scale_search", self.scale_search, SCALE_SEARCHES)
        if self.dt_s is not None:
            step_width("dt_s", self.dt_s)
        for name, bits in self._widths().items():
            if not 1 <= bits <= WEIGHT_BITS:
                raise RangeError(
                    f"weight_bits{name} is {bits!r}; expected a whole number from 1 to {WEIGHT_BITS}"
                )

    def _widths(self) -> dict[str, int]:
        """All bits that are asked for, by what messages say behind ``weight_bits``."""
        if isinstance(self.weight_bits, Mapping):
            return {f" of '{name}'": bits for name, bits in self.weight_bits.items()}
        return {"": self.weight_bits}

    @property
    def profile(self) -> ChipProfile:
        """The chip's register limits, also where ``chip`` is a name."""
        return chip_profile(self.chip)

    @property
    def keeps_bits(self) -> bool:
        """Whether all weights have all bits."""
        return all(bits == WEIGHT_BITS for bits in self._widths().values())

    def splits_signs(self, weight_bits: int) -> bool:
        """Whether weights of both signs get two connections; one bit cannot hold both."""
        return self.split_mixed or weight_bits == 1

    def requests(self) -> tuple[str, ...]:
        """What is asked of the float network, of which a file of integers has no more."""
        asked = {
            "calibration": self.calibration is not None,
            "readout": self.readout is not None,
            "scale_search": self.scale_search != SCALE_SEARCHES[0],
            "split_mixed": self.split_mixed,
            "if_integration": self.if_integration is not None,
        }
        return tuple(name for name, given in asked.items() if given)

    def facts(self) -> dict[str, Any]:
        """The choices that the metadata of the result keep."""
        return {
            "seed": self.seed,
            "scale_search": self.scale_search,
            "split_mixed": self.splits_signs(min(self._widths().values(), default=WEIGHT_BITS)),
            "readout": self.readout or "",
            **({"if_integration": self.if_integration} if self.if_integration else {}),
        }


def _check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        known = " or ".join(f"'{choice}'" for choice in choices if choice is not None)
        raise ConfigError(f"{name} is {value!r}; expected {known}")
