"""All torch layers and snnTorch neurons that the export knows."""

from __future__ import annotations

from torch import nn

from biril_nm.export.from_torch.kinds import LayerKind, NeuronKind
from biril_nm.export.from_torch.layers import LAYERS
from biril_nm.export.from_torch.neurons import NEURONS
from biril_nm.export.from_torch.refused import RefusedKind, refused_classes

__all__ = ["kind_names", "kind_of", "layer_kind", "neuron_kind", "refusal_of", "state_names"]

MODULES: dict[type, LayerKind | NeuronKind] = {**LAYERS, **NEURONS}
REFUSALS: dict[type, RefusedKind] = dict(refused_classes())


def kind_of(layer: nn.Module) -> LayerKind | NeuronKind | None:
    """Record of the known type that a layer is, or is derived from."""
    return next((MODULES[kind] for kind in type(layer).__mro__ if kind in MODULES), None)


def refusal_of(layer: nn.Module) -> RefusedKind | None:
    """Record of the refused type that a layer is, or is derived from with no known type between.

    A type that is registered as a layer, too, is known.
    """
    nearest = next((t for t in type(layer).__mro__ if t in MODULES or t in REFUSALS), object)
    return None if nearest in MODULES else REFUSALS.get(nearest)


def layer_kind(layer: nn.Module) -> LayerKind | None:
    """Record of a layer without states that leaves a node; None for others."""
    kind = kind_of(layer)
    return kind if isinstance(kind, LayerKind) and not kind.vanishes else None


def neuron_kind(layer: nn.Module) -> NeuronKind | None:
    """Record of a neuron layer; None for others."""
    kind = kind_of(layer)
    return kind if isinstance(kind, NeuronKind) else None


def state_names(layer: nn.Module) -> tuple[str, ...]:
    """Attributes that hold the states of a neuron layer, () for other layers."""
    kind = neuron_kind(layer)
    return () if kind is None else kind.states


def kind_names() -> list[str]:
    """Names of all known types, sorted."""
    return sorted(kind.name for kind in MODULES.values())
