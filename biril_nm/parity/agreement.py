"""Agreement of a float engine with integers: what survives quantisation, predictions and rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from biril_nm.errors import ConfigError, ParityError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import Recording
from biril_nm.recording.readout import predict

__all__ = ["MAX_RATE_DIFFERENCE", "MIN_AGREEMENT", "FloatAgreement", "Tolerance", "agreement"]

MIN_AGREEMENT = 0.9  # share of samples on which float and integer net predict the same class
MAX_RATE_DIFFERENCE = 0.05  # spikes per neuron and step, per node


@dataclass(frozen=True)
class Tolerance:
    """How far a float engine may differ from the integers.

    Attributes:
        min_agreement: share of samples that need the same predicted class.
        max_rate_difference: largest difference of mean firing rates per node.
    """

    min_agreement: float = MIN_AGREEMENT
    max_rate_difference: float = MAX_RATE_DIFFERENCE


@dataclass(frozen=True)
class FloatAgreement:
    """How far the float network and the integer network agree.

    Attributes:
        same_predictions: samples with the same predicted class.
        n_samples: samples compared.
        rate_difference: node -> |mean firing rate difference|, spikes per neuron and step.
        same_spikes: node -> share of (step, sample, neuron) cells with the same spike.
        engine: name of the float engine.
    """

    same_predictions: int
    n_samples: int
    rate_difference: Mapping[str, float]
    same_spikes: Mapping[str, float]
    engine: str = "torch"

    def problem(self, tolerance: Tolerance) -> str | None:
        """What is out of bounds, or None."""
        share = self.same_predictions / self.n_samples
        if share < tolerance.min_agreement:
            return (
                f"{self.engine} and the integer network predict the same class for "
                f"{self.same_predictions} of {self.n_samples} samples; expected at least "
                f"{tolerance.min_agreement:.0%}"
            )
        worst = max(self.rate_difference, key=lambda name: self.rate_difference[name])
        if self.rate_difference[worst] > tolerance.max_rate_difference:
            return (
                f"{worst}: firing rates of {self.engine} and the integer network differ by "
                f"{self.rate_difference[worst]:.3f} spikes per step; expected at most "
                f"{tolerance.max_rate_difference}"
            )
        return None

    def summary(self, integer_engine: str) -> str:
        """One line for people."""
        worst = max(self.rate_difference.values(), default=0.0)
        return (
            f"{self.engine} ~ {integer_engine}: {self.same_predictions} of {self.n_samples} "
            f"predictions equal, firing rates within {worst:.4f} spikes per step"
        )


def agreement(
    engine: str, floats: Recording, integers: Recording, graph: LoihiGraph
) -> FloatAgreement:
    """Compare what a float engine and an integer engine recorded of the same samples.

    Raises:
        ConfigError: no node has the same name in both.
        ParityError: a node has another shape.
    """
    shared = [node for node in integers if node in floats and integers[node].s is not None]
    if not shared:
        raise ConfigError(
            f"no node of the graph ({', '.join(integers)}) has the name of a layer of the network "
            f"({', '.join(floats)}). Record s, and export this very network"
        )
    pairs = {node: (np.asarray(integers[node].s), np.asarray(floats[node].s)) for node in shared}
    for node, (ours, theirs) in pairs.items():
        if ours.shape != theirs.shape:
            raise ParityError(f"{node}: shapes {ours.shape} and {theirs.shape} ({engine}) differ")
    ours, theirs = predict(graph, integers), predict(graph, floats)
    return FloatAgreement(
        same_predictions=int((ours == theirs).sum()),
        n_samples=len(ours),
        rate_difference={n: abs(float(a.mean()) - float(b.mean())) for n, (a, b) in pairs.items()},
        same_spikes={n: float((a == b).mean()) for n, (a, b) in pairs.items()},
        engine=engine,
    )
