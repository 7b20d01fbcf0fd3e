"""GIF neurons: a slow current ``i`` follows the spikes, and keeps what happened for seconds.

    s = 1 if u_{t-1} > 1 else 0
    i_t = k_i (i_{t-1} - a2 s)
    u_t = k_u (u_{t-1} - s) + (1 - k_u) (y_t + i_t)                                   GIF
    u_t = k_u (u_{t-1} - s) + (1 - k_u) (g_e (5 - u) + g_i (-10 - u) + i_t)    COBA_GIF, u = u_{t-1} - s

The spike of the soft reset carries no derivative. That of the slow current does, but not in GIF_CUT and
COBA_GIF_CUT, as in the published code: then D has one state that counts, of one sign, which ES-D-RTRL
needs. All send their potentials, standardised over the neurons of the layer, to the readout. COBA_GIF has
a conductance for each sign of input, with reversal potentials 5 and -10. ``k_u``, ``k_i`` and ``a2`` are
constants of the layer.

Source: the working memory and evidence tasks of BrainTrace's examples.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values
from biril_nm.training.online.neurons.spikes import triangle

__all__ = ["COBA_GIF", "COBA_GIF_CUT", "GIF", "GIF_CUT"]

EXCITATORY, INHIBITORY = 5.0, -10.0  # reversal potentials
TINY = 1e-5


Step = Callable[[State, State, Values], State]


def _slow(state: State, p: Values, cut: bool) -> tuple[Tensor, Tensor]:
    """Membrane after the soft reset, and the slow current."""
    u, i = state
    s = triangle(u - 1)
    return u - s.detach(), p["k_i"] * (i - p["a2"] * (s.detach() if cut else s))


def _gif(cut: bool) -> Step:
    def step(state: State, inputs: State, p: Values) -> State:
        u, i = _slow(state, p, cut)
        return p["k_u"] * u + (1 - p["k_u"]) * (inputs[0] + i), i

    return step


def _coba(cut: bool) -> Step:
    def step(state: State, inputs: State, p: Values) -> State:
        u, i = _slow(state, p, cut)
        excites, inhibits = inputs
        y = excites * (EXCITATORY - u) + inhibits * (INHIBITORY - u)
        return p["k_u"] * u + (1 - p["k_u"]) * (y + i), i

    return step


def _spikes(state: State, p: Values) -> Tensor:
    del p
    return triangle(state[0] - 1)


def _standardised(state: State, p: Values) -> Tensor:
    del p
    u = state[0]
    centred = u - u.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + TINY).sqrt()


def _kind(name: str, step: Step, channels: int = 1) -> OnlineNeuron:
    return OnlineNeuron(name, ("u", "i"), step, _spikes, sends=_standardised, channels=channels)


# Generalised integrate and fire: a slow current follows the spikes.
GIF = _kind("gif", _gif(cut=False))
GIF_CUT = _kind("gif_cut", _gif(cut=True))
COBA_GIF = _kind("coba_gif", _coba(cut=False), channels=2)
COBA_GIF_CUT = _kind("coba_gif_cut", _coba(cut=True), channels=2)
