"""The neurons of online learning, one kind a file, by name."""

from __future__ import annotations

from biril_nm.training.online.neuron import OnlineNeuron
from biril_nm.training.online.neurons.adlif import ADLIF
from biril_nm.training.online.neurons.gif import COBA_GIF, GIF
from biril_nm.training.online.neurons.lif import LIF
from biril_nm.training.online.neurons.readout import LEAKY_READOUT, LINEAR_READOUT

__all__ = ["ADLIF", "COBA_GIF", "GIF", "LEAKY_READOUT", "LIF", "LINEAR_READOUT", "NEURONS"]

NEURONS: dict[str, OnlineNeuron] = {
    kind.name: kind for kind in (LIF, ADLIF, GIF, COBA_GIF, LEAKY_READOUT, LINEAR_READOUT)
}
