"""The compartment models by name: where graphs, files and targets look a neuron up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from biril_nm.compartments.cuba_lif import CUBA_LIF
from biril_nm.compartments.model import CompartmentModel
from biril_nm.errors import ConfigError

__all__ = ["COMPARTMENTS", "compartment", "register", "unregister"]

_models: dict[str, CompartmentModel] = {}
COMPARTMENTS: Mapping[str, CompartmentModel] = MappingProxyType(_models)


def register(model: CompartmentModel, replace: bool = False) -> CompartmentModel:
    """Make ``model`` known under its name, and return it.

    Args:
        model: the record.
        replace: whether it takes the place of another model of that name.

    Raises:
        ConfigError: the name belongs to another model, or spikes have payloads that no engine sends.
    """
    if not replace and _models.get(model.name, model) is not model:
        raise ConfigError(
            f"compartment model '{model.name}' exists already; expected a new name. Rename it, or pass "
            f"replace=True"
        )
    if model.spikes != (0, 1):
        raise ConfigError(
            f"compartment model '{model.name}' sends payloads {model.spikes[0]} to {model.spikes[1]}; "
            f"expected spikes of 0 and 1"
        )
    _models[model.name] = model
    return model


def unregister(name: str) -> None:
    """Forget the model called ``name``; graphs that have it cannot run any more."""
    _models.pop(name, None)


def compartment(name: str) -> CompartmentModel:
    """The model called ``name``.

    Raises:
        ConfigError: no such model is registered; the message lists the known ones.
    """
    try:
        return _models[name]
    except (KeyError, TypeError):
        raise ConfigError(
            f"compartment model {name!r:.60} is unknown; expected one of {', '.join(_models)}. "
            f"Import the module that registers it first"
        ) from None


register(CUBA_LIF)
