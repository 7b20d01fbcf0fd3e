"""Plans: the sizes that a published network has, and the settings that a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from biril_nm.errors import ConfigError
from biril_nm.models.config import ModelConfig

__all__ = [
    "refuse_ignored",
    "refuse_ignored_by_neurons",
    "with_plan",
    "without_ignored",
]

# Kind of neurons, or name of a network -> fields of a configuration that change nothing.
IGNORED_BY_NEURONS = {"if": ("beta",)}
SIZES = ("channels", "hidden", "kernel", "init", "depths")  # which each network has its own
IGNORED = dict.fromkeys(("mlp", "recurrent"), ("channels", "kernel", "depths"))


def with_plan(name: str, config: ModelConfig, plan: Mapping[str, Any], other: str) -> ModelConfig:
    """The configuration with the sizes of ``plan``; ``other`` is the architecture of any size.

    Raises:
        ConfigError: it has sizes of its own.
    """
    default = ModelConfig()
    wrong = [
        field
        for field, value in plan.items()
        if getattr(config, field) not in (value, getattr(default, field))
    ]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)} of '{name}' are "
            f"{', '.join(str(getattr(config, field)) for field in wrong)}; expected "
            f"{', '.join(str(plan[field]) for field in wrong)}. Leave them out, or use model '{other}'"
        )
    return ModelConfig.from_dict(config.to_dict() | dict(plan))


def refuse_ignored(name: str, config: ModelConfig, ignored: tuple[str, ...] = ()) -> None:
    """Refuse settings that a network has no use for.

    Raises:
        ConfigError: one of these fields, or of :data:`IGNORED`, is not the default.
    """
    _refuse(config, (*ignored, *IGNORED.get(name, ())), f"'{name}' does not use", "another model")


def refuse_ignored_by_neurons(config: ModelConfig) -> None:
    """Refuse settings that the neurons of a network have no use for.

    Raises:
        ConfigError: such a field is not the default.
    """
    ignored = IGNORED_BY_NEURONS.get(config.neuron, ())
    _refuse(
        config, ignored, f"neurons '{config.neuron}' do not use", "other neurons, such as 'lif'"
    )


def _refuse(config: ModelConfig, ignored: tuple[str, ...], reason: str, other: str) -> None:
    default = ModelConfig()
    for field in ignored:
        value, expected = getattr(config, field), getattr(default, field)
        if value != expected:
            raise ConfigError(
                f"{field} is {value!r}, which {reason}; expected {expected!r}. Leave it out, or use {other}"
            )


def without_ignored(name: str, config: ModelConfig) -> ModelConfig:
    """The configuration with the defaults of the fields that change nothing.

    Versions before 0.2.0 wrote them into files.
    """
    ignored = (*IGNORED.get(name, ()), *IGNORED_BY_NEURONS.get(config.neuron, ()))
    default = ModelConfig()
    return replace(config, **{field: getattr(default, field) for field in ignored})


def of_other(values: Mapping[str, Any], other_model: bool, neuron: str) -> dict[str, Any]:
    """Fields of a configuration without sizes of another network, and what the neurons have no use for."""
    left_out = (*(SIZES if other_model else ()), *IGNORED_BY_NEURONS.get(neuron, ()))
    return {name: value for name, value in values.items() if name not in left_out}
