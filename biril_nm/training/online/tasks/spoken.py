"""Spoken digits by the protocol of SHD. These are not the SHD: their spikes come from a filterbank.

Clips of the Free Spoken Digit Dataset (8 kHz), each stretched to 50 steps. 40 mel bands from 100 Hz to 4 kHz;
log energies between the loudest of the clip and 60 dB below it; three inputs for each band spike at each
step while it is above 0.4, 0.6 and 0.8 of that range. The test clips are recordings 0 to 4 of each speaker
and digit, 300 of 3,000. Two layers of 128 RLIF neurons, leaky readout, the sum over time decides; Adam.

Source of the protocol: the SHD experiments of BrainTrace, there with 700 inputs, 100 steps, 20 classes and
1,024 neurons in a layer.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biril_nm.arrays import FloatArray
from biril_nm.data.labels import N_DIGITS
from biril_nm.data.sources import DATA_ROOT_VARIABLE
from biril_nm.data.spoken import RATE, mel_filters, read_recordings
from biril_nm.data.spoken import SPOKEN as SOURCE
from biril_nm.errors import ConfigError
from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.lif import LIF
from biril_nm.training.online.neurons.readout import LEAKY_READOUT
from biril_nm.training.online.rules import D_RTRL, ES_D_RTRL
from biril_nm.training.online.tasks.task import BPTT, Method, OnlineTask

__all__ = ["SPOKEN", "spike_coded"]

FRAME, HOP = 256, 80
BANDS, LOWEST_HZ, N_STEPS, RANGE_DB = 40, 100.0, 50, 60.0
LEVELS = (0.4, 0.6, 0.8)
N_HIDDEN = 128
INPUT_GAIN = 8.0
Part = tuple[Tensor, Tensor]


def spike_coded(wave: FloatArray) -> FloatArray:
    """Spikes ``(50, 120)`` of a clip."""
    padded = np.pad(np.asarray(wave, dtype=np.float64), (0, max(0, FRAME - len(wave))))
    starts = np.arange(0, len(padded) - FRAME + 1, HOP)
    frames = padded[starts[:, None] + np.arange(FRAME)] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ _filterbank().T
    level = 10 * np.log10(power + 1e-9)
    level = np.clip((level - level.max()) / RANGE_DB + 1, 0, 1)
    places = np.linspace(0, len(level) - 1, N_STEPS)
    stretched = np.stack([np.interp(places, np.arange(len(level)), band) for band in level.T], 1)
    return np.concatenate([stretched > bound for bound in LEVELS], axis=1).astype(np.float64)


@cache
def _filterbank() -> FloatArray:
    """Triangles of equal width on the mel scale, (bands, frequencies)."""
    found = mel_filters(BANDS, FRAME, LOWEST_HZ)
    frequencies = np.fft.rfftfreq(FRAME, 1 / RATE)
    mel = np.linspace(_mel(LOWEST_HZ), _mel(RATE / 2), BANDS + 2)
    middle = 700 * (10 ** (mel[1:-1, None] / 2595) - 1)
    nearest = np.abs(frequencies - middle).argmin(1)  # narrow bands lie between two frequencies
    found[np.arange(BANDS), nearest] = np.maximum(found[np.arange(BANDS), nearest], 0.5)
    return found


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))


@cache
def _clips(root: str) -> tuple[Part, Part]:
    """Training and test clips, coded."""
    parts = read_recordings(Path(root)) if root else None
    if parts is None:
        raise ConfigError(
            f"no spoken digits in '{root}'. {SOURCE.expected(root or DATA_ROOT_VARIABLE)}"
        )
    training, test = (
        (
            torch.from_numpy(
                np.stack([spike_coded(audio.astype(np.float64)) for audio, _, _ in part])
            ).float(),
            torch.tensor([digit for _, digit, _ in part]),
        )
        for part in parts
    )
    return training, test


def _sample(random: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
    """Training clips at random."""
    x, labels = _clips(os.environ.get(DATA_ROOT_VARIABLE, ""))[0]
    chosen = torch.randint(len(labels), (batch,), generator=random)
    return x[chosen].transpose(0, 1), labels[chosen]


def _test(offset: int, batch: int) -> tuple[Tensor, Tensor]:
    """Test clips from ``offset`` on."""
    x, labels = _clips(os.environ.get(DATA_ROOT_VARIABLE, ""))[1]
    part = slice(offset, offset + batch)
    return x[part].transpose(0, 1), labels[part]


def _net(seed: int, cut: bool = False) -> OnlineNet:
    del cut
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [
            layer_of(LIF, BANDS * len(LEVELS), N_HIDDEN, recurrent=True),
            layer_of(LIF, N_HIDDEN, N_HIDDEN, recurrent=True),
            layer_of(LEAKY_READOUT, N_HIDDEN, N_DIGITS),
        ]
    with torch.no_grad():
        for layer in layers[:2]:
            layer.links()[0][1].weight.mul_(INPUT_GAIN)
    return OnlineNet(layers)


SPOKEN = OnlineTask(
    "spoken",
    "spoken digits (not SHD), 50 steps, two layers of 128 RLIF neurons",
    _net,
    _sample,
    batch=64,
    n_batches=600,
    n_test=300,
    enough=2.0,
    methods={
        BPTT: Method(lr=1e-2, factor=0.9, every=42),
        D_RTRL: Method(lr=1e-2, factor=0.9, every=42),
        ES_D_RTRL: Method(lr=1e-2, factor=0.9, every=42, decay=0.8),
    },
    test=_test,
)
