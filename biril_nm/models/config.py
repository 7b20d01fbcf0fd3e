"""ModelConfig: size and kind of a network, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from biril_nm.arguments import checked, unknown_name
from biril_nm.coding import Coding
from biril_nm.errors import BirilError, ConfigError, bullet_list
from biril_nm.neurons import NEURONS, RESETS, make_surrogate

__all__ = ["ModelConfig"]

MAX_SIZE = 1 << 20  # of one layer: the neurons of a Loihi 2 chip
MAX_LAYERS = 1000
MAX_KERNEL = 255
INITS = ("kaiming", "torch")
LENGTHS = ("input_shape", "channels", "hidden", "depths")  # fields that list whole numbers


@checked
@dataclass(frozen=True)
class ModelConfig:
    """Size and kind of a network; the defaults fit scikit-learn's 8x8 digits.

    Attributes:
        input_shape: (C, H, W); (C, L), a series of L steps in C channels; or (features,).
        n_classes: number of output neurons.
        neuron: ``"if"``; ``"lif"``; ``"lif_tau"``, whose input counts ``1 - beta``; or ``"plif"``, the same
            with a learned beta for each layer.
        beta: membrane decay per step, of ``"plif"`` at first; ``tau = 1 / (1 - beta)``. ``"if"`` refuses all
            but 0.9.
        threshold: firing threshold.
        batch_norm: BatchNorm between each weight layer and its neurons, except before the readout.
        bias: biases in the weight layers (those followed by BatchNorm need none).
        surrogate: name of the surrogate gradient, or name and slope as ``"qgate:2"``.
        coding: how values enter the network.
        channels: output channels of the convolutions, or of the stages of a network that has stages; networks
            without convolutions refuse all but the default.
        kernel: side of the kernels of convnet and vgg, an odd number; other networks refuse all but 3.
        init: how weights start: ``"kaiming"``, normal; or ``"torch"``, uniform in ±1 / sqrt(inputs). Readouts
            and loops keep their own; residual networks have their own and refuse all but the default.
        depths: convolutions, or blocks, of each stage; empty: as the architecture has it.
        reset: what a spike does to the membrane: ``"zero"``, or ``"subtract"`` the threshold.
        hidden: sizes of the hidden fully connected layers.
    """

    input_shape: tuple[int, ...] = (1, 8, 8)
    n_classes: int = 10
    neuron: str = "if"
    beta: float = 0.9
    threshold: float = 1.0
    batch_norm: bool = True
    bias: bool = True
    surrogate: str = "sigmoid"
    coding: Coding = field(default_factory=Coding)
    channels: tuple[int, ...] = (16, 32)
    hidden: tuple[int, ...] = (128,)
    kernel: int = 3
    init: str = "kaiming"
    depths: tuple[int, ...] = ()
    reset: str = "zero"

    def __post_init__(self) -> None:
        for name in LENGTHS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        findings = list(self._findings())
        if findings:
            raise ConfigError(bullet_list("the model configuration makes no sense:", findings))

    def _findings(self) -> list[str]:
        found = self._wrong_sizes()
        if not 1 <= len(self.input_shape) <= 3:
            found.append(
                f"input_shape is {self.input_shape}; expected (features,), (C, L) or (C, H, W)"
            )
        if (
            type(self.kernel) is not int
            or not 1 <= self.kernel <= MAX_KERNEL
            or not self.kernel % 2
        ):
            found.append(
                f"kernel is {self.kernel!r}; expected an odd number from 1 to {MAX_KERNEL}"
            )
        if type(self.n_classes) is not int or not 2 <= self.n_classes <= MAX_SIZE:
            found.append(f"n_classes is {self.n_classes!r:.80}; expected 2 to {MAX_SIZE}")
        found += self._unknown_names()
        for name, top in (("beta", 1.0), ("threshold", 1e6)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0.0 < value <= top:
                found.append(f"{name} is {value!r}; expected a number above 0, up to {top:g}")
        return found

    def _wrong_sizes(self) -> list[str]:
        found = []
        for name in LENGTHS:
            value = getattr(self, name)
            if not all(type(n) is int and 0 < n <= MAX_SIZE for n in value):
                found.append(f"{name} is {value!r:.80}; expected integers from 1 to {MAX_SIZE}")
            if len(value) > MAX_LAYERS:
                found.append(f"{name} has {len(value)} layers; expected at most {MAX_LAYERS}")
        if not found and sum(self.depths) > MAX_LAYERS:
            found.append(f"depths add up to {sum(self.depths)}; expected at most {MAX_LAYERS}")
        return found

    def _unknown_names(self) -> list[str]:
        registries: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("neuron", NEURONS),
            ("reset", dict.fromkeys(RESETS)),
            ("init", dict.fromkeys(INITS)),
        )
        found = [
            unknown_name(name, getattr(self, name), known)
            for name, known in registries
            if getattr(self, name) not in known
        ]
        try:
            make_surrogate(self.surrogate)
        except ConfigError as error:
            found.append(str(error))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; :meth:`from_dict` reads it."""
        return {**asdict(self), "coding": self.coding.to_dict()}

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, Any]) -> ModelConfig:
        """Inverse of :meth:`to_dict`; missing fields take their defaults.

        Raises:
            ConfigError: unknown field or a value of the wrong kind.
        """
        known = {f.name for f in fields(ModelConfig)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"model fields {unknown} are unknown; expected some of {sorted(known)}"
            )
        arguments = dict(values)
        try:
            if "coding" in arguments:
                arguments["coding"] = Coding.from_dict(arguments["coding"])
            return ModelConfig(**arguments)
        except BirilError:
            raise
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"the model configuration is damaged: {error!r}") from error
