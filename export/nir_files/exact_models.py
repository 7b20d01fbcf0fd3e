"""Compartment models other than CUBA-LIF in NIR files: a node that is close, and the registers beside it.

NIR knows no such neuron, so that a reader which knows nothing of compartment models sees the CUBA-LIF neuron
of the same name, whose threshold is what one spike stands for. The metadata hold the registers themselves.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from biril_nm.compartments import CUBA_LIF, compartment
from biril_nm.export.nir_nodes.resets import reset_metadata
from biril_nm.hw_graph import Neurons

__all__ = ["add_model", "model_of", "nearest_cuba_lif", "neurons_of_model"]

MODEL = "compartment"
REGISTER = "register_"


def nearest_cuba_lif(node: Neurons) -> Neurons:
    """CUBA-LIF neurons with the registers that the model of ``node`` shares with it."""
    if node.model == CUBA_LIF.name:
        return node
    names = [each.name for each in CUBA_LIF.registers if each.name in node.registers]
    known = {name: node.registers[name] for name in names}
    return Neurons(node.shape, registers={**known, "vth": node.spike_threshold})


def add_model(written: nir.NIRNode, node: Neurons) -> nir.NIRNode:
    """Note model and registers of ``node``, unless it is CUBA-LIF."""
    if node.model != CUBA_LIF.name:
        written.metadata |= {
            **reset_metadata(node.compartment.reset),
            MODEL: node.model,
            **{f"{REGISTER}{name}": _value(value) for name, value in node.registers.items()},
        }
    return written


def _value(register: Any) -> Any:
    """An integer or an array; HDF5 files of nir hold no arrays without dimensions."""
    return np.asarray(register) if np.ndim(register) else int(register)


def model_of(node: Any) -> str | None:
    """Name of the compartment model that a NIR node stands for, None for CUBA-LIF.

    Raises:
        ConfigError: the model is not registered.
    """
    name = (getattr(node, "metadata", None) or {}).get(MODEL)
    if name is None:
        return None
    return compartment(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    ).name


def neurons_of_model(node: Any, model: str, shape: tuple[int, ...]) -> Neurons:
    """The population that :func:`add_model` noted."""
    names = [register.name for register in compartment(model).registers]
    registers = {name: np.asarray(node.metadata[f"{REGISTER}{name}"]) for name in names}
    return Neurons(shape, model=model, registers=registers)
