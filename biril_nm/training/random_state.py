"""What layers draw at random: a function of seeds, whatever was drawn before.

Dropout, and other layers that are random, draw from torch's own generators, forwards of users also from
those of NumPy and Python. These are seeded for each batch and put back behind it, so that runs of one seed
are equal, a resumed run is equal to an uninterrupted one, and the random numbers of the program around it
stay what they were. Generators that a network holds itself go on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["drawing", "mix"]


@contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """While it is open, generators go on from ``seed``: of NumPy, Python, the CPU and a CUDA ``device``."""
    on_cuda = device.type == "cuda"
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)


def mix(*numbers: int) -> int:
    """One seed from several numbers, without collisions in practice."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
