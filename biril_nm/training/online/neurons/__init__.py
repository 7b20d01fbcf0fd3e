"""The neurons of online learning, one kind a file, by name."""

from __future__ import annotations

from biril_nm.training.online.neurons.adlif import ADLIF
from biril_nm.training.online.neurons.egru import EGRU
from biril_nm.training.online.neurons.gif import COBA_GIF, COBA_GIF_CUT, GIF, GIF_CUT
from biril_nm.training.online.neurons.lif import LIF
from biril_nm.training.online.neurons.neuron import OnlineNeuron
from biril_nm.training.online.neurons.readout import LEAKY_READOUT, LINEAR_READOUT

__all__ = ["ADLIF", "EGRU", "GIF", "LEAKY_READOUT", "LIF", "LINEAR_READOUT", "NEURONS"]

_KINDS = (LIF, ADLIF, GIF, GIF_CUT, COBA_GIF, COBA_GIF_CUT, EGRU, LEAKY_READOUT, LINEAR_READOUT)
# Name -> kind of neurons that learn online.
NEURONS: dict[str, OnlineNeuron] = {kind.name: kind for kind in _KINDS}
