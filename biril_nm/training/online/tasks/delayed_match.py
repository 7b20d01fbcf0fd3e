"""Delayed match to sample: is the second of two directions, a second apart, the same as the first?

Steps of 10 ms: 1 of fixation, 50 of the sample, 100 of delay, 50 of the test, 201 in all. 100 inputs are
tuned to directions (von Mises, kappa 3, 100 Hz at most, 1 Hz without a stimulus); 8 directions, half of the
trials match. Only outputs of the test steps count. 64 GIF neurons in a loop, exponential synapses of
100 ms, membranes of 100 ms, slow currents of 100 to 2250 ms.

Source: the working memory task of BrainTrace, there with steps of 1 ms and 200 neurons.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biril_nm.training.online.layer import OWN, OnlineLayer, Projection, Wiring
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.gif import GIF, GIF_CUT
from biril_nm.training.online.rules import D_RTRL, ES_D_RTRL
from biril_nm.training.online.tasks.task import BPTT, Method, OnlineTask, leaky_readout

__all__ = ["DELAYED_MATCH", "delayed_match"]

DT_MS = 10.0
LR = 3e-3
FIXATION, SAMPLE, DELAY, TEST = 1, 50, 100, 50
N_INPUTS, N_DIRECTIONS, KAPPA = 100, 8, 3.0
PEAK_HZ, REST_HZ = 100.0, 1.0
N_NEURONS, TAU_SYNAPSE, TAU_NEURON, TAU_READOUT = 64, 100.0, 100.0, 5.0
TAU_SLOW = (100.0, 2250.0)
INPUT_SCALE, LOOP_SCALE = 6.0, 2.0


def delayed_match(random: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
    """Trials of the task: spikes ``(201, batch, 100)`` and labels, 1 for a match."""
    match = torch.randint(0, 2, (batch,), generator=random)
    first = torch.randint(0, N_DIRECTIONS, (batch,), generator=random)
    turn = torch.randint(1, N_DIRECTIONS, (batch,), generator=random)
    second = (first + turn * (1 - match)) % N_DIRECTIONS
    preferred = torch.arange(N_INPUTS) * (2 * math.pi / N_INPUTS)
    stimuli = torch.arange(N_DIRECTIONS) * (2 * math.pi / N_DIRECTIONS)
    tuning = torch.exp(KAPPA * (torch.cos(stimuli[:, None] - preferred) - 1)) * PEAK_HZ
    rates = torch.full((FIXATION + SAMPLE + DELAY + TEST, batch, N_INPUTS), REST_HZ)
    rates[FIXATION : FIXATION + SAMPLE] += tuning[first]
    rates[-TEST:] += tuning[second]
    spikes = torch.rand(rates.shape, generator=random) < rates * (DT_MS / 1000)
    return spikes.float(), match


def _net(seed: int, cut: bool = False) -> OnlineNet:
    random = torch.Generator().manual_seed(seed)

    def normal(n_in: int, scale: float) -> Tensor:
        spread = math.sqrt(scale / n_in)
        return spread * torch.randn(N_NEURONS, n_in, generator=random)

    synapse = math.exp(-DT_MS / TAU_SYNAPSE)
    low, high = TAU_SLOW
    slow = low + (high - low) * torch.rand(N_NEURONS, generator=random)
    hidden = OnlineLayer(
        GIF_CUT if cut else GIF,
        {
            "W": Projection(normal(N_INPUTS, INPUT_SCALE), Wiring(decay=synapse)),
            "V": Projection(normal(N_NEURONS, LOOP_SCALE), Wiring(OWN, decay=synapse)),
        },
        {"k_u": math.exp(-DT_MS / TAU_NEURON), "k_i": torch.exp(-DT_MS / slow), "a2": 1.0},
    )
    readout = leaky_readout(seed, N_NEURONS, 2, DT_MS / TAU_READOUT)
    return OnlineNet([hidden, readout], first_step=-TEST)


DELAYED_MATCH = OnlineTask(
    "dms",
    "delayed match to sample, 201 steps, 64 GIF neurons",
    _net,
    delayed_match,
    methods={
        BPTT: Method(lr=LR),
        D_RTRL: Method(lr=LR),
        ES_D_RTRL: Method(lr=LR, factor=0.9, every=8, decay=0.9, readout=D_RTRL, cut=True),
    },
)
