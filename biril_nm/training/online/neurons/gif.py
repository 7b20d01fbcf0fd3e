"""GIF neurons: a slow current ``i`` follows the spikes, and keeps what happened for seconds.

    s = 1 if u_{t-1} > 1 else 0
    i_t = k_i (i_{t-1} - a2 s)
    u_t = k_u (u_{t-1} - s) + (1 - k_u) (y_t + i_t)                                   GIF
    u_t = k_u (u_{t-1} - s) + (1 - k_u) (g_e (5 - u_{t-1}) + g_i (-10 - u_{t-1}) + i_t)    COBA_GIF

The spike of the soft reset carries no derivative, that of the slow current does. GIF sends its potentials,
standardised over the neurons of the layer, to the readout. COBA_GIF has a conductance for each sign of
input, with reversal potentials 5 and -10. ``k_u``, ``k_i`` and ``a2`` are constants of the layer.

Source: the working memory and evidence tasks of BrainTrace's examples.
"""

from __future__ import annotations

from torch import Tensor

from biril_nm.training.online.neuron import OnlineNeuron, State, Values
from biril_nm.training.online.spikes import triangle

__all__ = ["COBA_GIF", "GIF"]

EXCITATORY, INHIBITORY = 5.0, -10.0  # reversal potentials
TINY = 1e-5


def _gif(state: State, inputs: State, p: Values) -> State:
    (u, i), (y,) = state, inputs
    s = triangle(u - 1)
    i = p["k_i"] * (i - p["a2"] * s)
    return p["k_u"] * (u - s.detach()) + (1 - p["k_u"]) * (y + i), i


def _coba(state: State, inputs: State, p: Values) -> State:
    (u, i), (excites, inhibits) = state, inputs
    s = triangle(u - 1)
    i = p["k_i"] * (i - p["a2"] * s)
    rested = u - s.detach()
    y = excites * (EXCITATORY - rested) + inhibits * (INHIBITORY - rested)
    return p["k_u"] * rested + (1 - p["k_u"]) * (y + i), i


def _spikes(state: State, p: Values) -> Tensor:
    del p
    return triangle(state[0] - 1)


def _standardised(state: State, p: Values) -> Tensor:
    del p
    u = state[0]
    centred = u - u.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + TINY).sqrt()


GIF = OnlineNeuron("gif", ("u", "i"), _gif, _spikes, sends=_standardised)
COBA_GIF = OnlineNeuron("coba_gif", ("u", "i"), _coba, _spikes, sends=_standardised, channels=2)
