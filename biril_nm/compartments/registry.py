"""The compartment models by name: where graphs, files and targets look a neuron up."""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from biril_nm.arguments import checked
from biril_nm.compartments.cuba_lif import CUBA_LIF
from biril_nm.compartments.cuba_lif_refractory import CUBA_LIF_REFRACTORY
from biril_nm.compartments.cuba_lif_resets import RESET_MODELS
from biril_nm.compartments.model import CompartmentModel
from biril_nm.compartments.ternary_lif import TERNARY_LIF
from biril_nm.errors import ConfigError

__all__ = ["COMPARTMENTS", "compartment", "register", "source_of", "unregister"]

PAYLOADS = ((0, 1), (-1, 1))  # that engines and recordings carry

_models: dict[str, CompartmentModel] = {}
_modules: dict[str, str] = {}
# Name -> compartment model, in the order in which they were registered.
COMPARTMENTS: Mapping[str, CompartmentModel] = MappingProxyType(_models)


def register(model: CompartmentModel, module: str, replace: bool = False) -> CompartmentModel:
    """Make ``model`` known under its name, and return it.

    Args:
        model: the record.
        module: ``__name__`` of the module that calls this. Bundles for Lava hold a copy of its file.
        replace: whether the record takes the place of another one of that name.

    Raises:
        ConfigError: the name belongs to another model, or spikes have payloads that no engine sends.
    """
    if not replace and _models.get(model.name, model) is not model:
        raise ConfigError(
            f"compartment model '{model.name}' exists already; expected a new name. Rename it, or pass "
            f"replace=True"
        )
    if model.spikes not in PAYLOADS:
        raise ConfigError(
            f"compartment model '{model.name}' sends payloads {model.spikes[0]} to {model.spikes[1]}; "
            f"expected spikes of 0 and 1, or of -1, 0 and 1"
        )
    _models[model.name], _modules[model.name] = model, module
    return model


def unregister(name: str) -> None:
    """Forget the model called ``name``; graphs that have it cannot run any more."""
    _models.pop(name, None)
    _modules.pop(name, None)


@checked
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


@checked
def source_of(name: str) -> Path:
    """File that registered the model called ``name``.

    Raises:
        ConfigError: the model comes from a program or a session instead of a module of its own.
    """
    module = _modules[compartment(name).name]
    file = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__" or file is None or not Path(file).is_file():
        raise ConfigError(
            f"compartment model '{name}' was registered by '{module}'; expected a module with a file. "
            f"Put it into a module and import that"
        )
    return Path(file)


def _reduced(model: CompartmentModel) -> Any:
    """A copy or pickle of a registered model is the model of that name; others are copied as they are."""
    if _models.get(model.name) is model:
        return compartment, (model.name,)
    return object.__reduce_ex__(model, pickle.DEFAULT_PROTOCOL)


copyreg.pickle(CompartmentModel, _reduced)

for _model in (CUBA_LIF, *RESET_MODELS, CUBA_LIF_REFRACTORY, TERNARY_LIF):
    register(_model, _model.step.__module__)
