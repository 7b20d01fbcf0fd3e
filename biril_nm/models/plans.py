"""Plans: the sizes that a published network has, and the settings that a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biril_nm.errors import ConfigError
from biril_nm.models.config import ModelConfig

__all__ = ["refuse_ignored", "with_plan"]


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


def refuse_ignored(name: str, config: ModelConfig, ignored: tuple[str, ...]) -> None:
    """Refuse settings that a network has no use for.

    Raises:
        ConfigError: one of the fields ``ignored`` is not the default.
    """
    default = ModelConfig()
    for field in ignored:
        value, expected = getattr(config, field), getattr(default, field)
        if value != expected:
            raise ConfigError(
                f"{field} is {value!r}, which '{name}' does not use; expected {expected!r}. Leave it out, or "
                f"use another model"
            )
