"""Evidence accumulation: seven cues left or right, a second of delay, then: which side had more?

Steps of 10 ms: seven times 5 of silence and 10 of a cue, 100 of delay, 15 of recall, 220 in all. Four groups
of 25 inputs: left, right, recall (40 Hz while they are on) and noise (10 Hz). In a trial each cue is on
the preferred side with probability 0.7; the label is the side of the majority. Only outputs of the recall
steps count. 100 conductance GIF neurons, 80 excitatory and 20 inhibitory: no weight from the inputs or
the loop is below 0, and the reversal potential of its source gives its sign. One in ten pairs of neurons
has a synapse.

Source: the decision task of BrainTrace, there with steps of 1 ms, 800 neurons, slow currents of 2000 ms (here
100 to 4000 ms) and a threshold that adapts, which is left out here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biril_nm.training.online.layer import OWN, OnlineLayer, Projection, Wiring
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.gif import COBA_GIF, COBA_GIF_CUT
from biril_nm.training.online.rules import D_RTRL, ES_D_RTRL
from biril_nm.training.online.tasks.task import BPTT, Method, OnlineTask, leaky_readout

__all__ = ["EVIDENCE", "evidence"]

DT_MS = 10.0
LR = 3e-3
N_CUES, SILENCE, CUE, DELAY, RECALL = 7, 5, 10, 100, 15
GROUP, CUE_HZ, NOISE_HZ, BIAS = 25, 40.0, 10.0, 0.3
N_NEURONS, N_EXCITATORY, CONNECTED = 100, 80, 0.1
INPUT_SCALE, LOOP_SCALE, INHIBITION = 1.0, 0.5, 4.0
TAU_NEURON, TAU_SYNAPSE, TAU_READOUT = 200.0, 10.0, 10.0
TAU_SLOW = (100.0, 4000.0)
LEFT, RIGHT, RECALLS, NOISE = (slice(i * GROUP, (i + 1) * GROUP) for i in range(4))


def evidence(random: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
    """Trials of the task: spikes ``(220, batch, 100)`` and labels, 1 for left."""
    n_steps = N_CUES * (SILENCE + CUE) + DELAY + RECALL
    bias = torch.where(torch.rand(batch, generator=random) < 0.5, BIAS, 1 - BIAS)
    left = torch.rand(N_CUES, batch, generator=random) > bias
    rates = torch.zeros(n_steps, batch, 4 * GROUP)
    for k in range(N_CUES):
        start = SILENCE + k * (SILENCE + CUE)
        on = left[k].float()[None, :, None] * CUE_HZ
        rates[start : start + CUE, :, LEFT] = on
        rates[start : start + CUE, :, RIGHT] = CUE_HZ - on
    rates[-RECALL:, :, RECALLS] = CUE_HZ
    rates[:, :, NOISE] = NOISE_HZ
    spikes = torch.rand(rates.shape, generator=random) < rates * (DT_MS / 1000)
    return spikes.float(), (left.sum(0) > N_CUES / 2).long()


def _net(seed: int, cut: bool = False) -> OnlineNet:
    random = torch.Generator().manual_seed(seed)

    def positive(n_in: int, scale: float) -> Tensor:
        found = math.sqrt(scale / n_in) * torch.randn(N_NEURONS, n_in, generator=random)
        return found.abs()

    def sparse(n_in: int) -> Tensor:
        return (torch.rand(N_NEURONS, n_in, generator=random) < CONNECTED).float()

    synapse = math.exp(-DT_MS / TAU_SYNAPSE)
    inhibitory = N_NEURONS - N_EXCITATORY
    low, high = TAU_SLOW
    slow = low + (high - low) * torch.rand(N_NEURONS, generator=random)
    hidden = OnlineLayer(
        COBA_GIF_CUT if cut else COBA_GIF,
        {
            "W": Projection(positive(4 * GROUP, INPUT_SCALE), Wiring(decay=synapse, sign=1)),
            "E": Projection(
                positive(N_EXCITATORY, LOOP_SCALE),
                Wiring(OWN, (0, N_EXCITATORY), decay=synapse, sign=1),
                sparse(N_EXCITATORY),
            ),
            "I": Projection(
                positive(inhibitory, LOOP_SCALE * INHIBITION),
                Wiring(OWN, (N_EXCITATORY, N_NEURONS), channel=1, decay=synapse, sign=1),
                sparse(inhibitory),
            ),
        },
        {"k_u": math.exp(-DT_MS / TAU_NEURON), "k_i": torch.exp(-DT_MS / slow), "a2": 1.0},
    )
    readout = leaky_readout(seed, N_NEURONS, 2, DT_MS / TAU_READOUT)
    return OnlineNet([hidden, readout], first_step=-RECALL)


EVIDENCE = OnlineTask(
    "evidence",
    "evidence accumulation, 220 steps, 100 conductance neurons with fixed signs",
    _net,
    evidence,
    enough=0.93,
    methods={
        BPTT: Method(lr=LR),
        D_RTRL: Method(lr=LR),
        ES_D_RTRL: Method(lr=LR, factor=0.9, every=20, decay=0.8, readout=D_RTRL, cut=True),
    },
)
