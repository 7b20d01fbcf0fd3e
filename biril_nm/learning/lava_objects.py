"""Lava's rule objects, read without Lava: which class they are of, and the texts and numbers in them."""

from __future__ import annotations

from typing import Any

from biril_nm.errors import ConfigError
from biril_nm.learning.terms import TRACES

__all__ = ["is_lava_rule", "lava_rule_arguments"]

MODULE = "lava.magma.core.learning.learning_rule"
TWO_FACTOR, THREE_FACTOR, BARE = "Loihi2FLearningRule", "Loihi3FLearningRule", "LoihiLearningRule"
TEXTS = ("dw", "dt", "dd")
NUMBERS = ("t_epoch", "rng_seed")


def _classes(rule: object) -> set[str]:
    return {kind.__name__ for kind in type(rule).__mro__ if kind.__module__ == MODULE}


def is_lava_rule(rule: object) -> bool:
    """Whether ``rule`` is an object of Lava's LoihiLearningRule or of a class that inherits from it."""
    return BARE in _classes(rule)


def lava_rule_arguments(rule: object) -> dict[str, Any]:
    """What ``LearningRule.from_expressions`` takes to make the rule of one of Lava's objects.

    Raises:
        ConfigError: no rule object of Lava, or one from which a field is missing.
    """
    if not is_lava_rule(rule):
        kind = type(rule)
        raise ConfigError(
            f"rule is a {kind.__name__} of module {kind.__module__}; expected an object of Lava's "
            f"{TWO_FACTOR}, {THREE_FACTOR} or a class made of them, such as STDPLoihi. Pass texts to "
            f"LearningRule.from_expressions"
        )
    three_factor = THREE_FACTOR in _classes(rule)
    names = [name for name in TRACES if not three_factor or name.startswith("x")]
    fields = [f"{name}_{part}" for name in names for part in ("impulse", "tau")]
    try:
        texts = {name: getattr(rule, f"{name}_str") for name in TEXTS}
        numbers = {name: getattr(rule, name) for name in (*fields, *NUMBERS)}
    except AttributeError as error:
        raise ConfigError(
            f"rule is a {type(rule).__name__} without a field: {error}; expected those of lava-nc 0.10.0"
        ) from error
    return {
        "name": type(rule).__name__,
        "three_factor": three_factor,
        **texts,
        **numbers,
    }


def sees_no_targets(rule: object) -> bool:
    """Whether Lava hands the rule no spikes of its targets: a bare LoihiLearningRule."""
    return not _classes(rule) & {TWO_FACTOR, THREE_FACTOR}
