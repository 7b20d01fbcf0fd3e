"""Modules and settings that tests of the exporter from torch share."""

from __future__ import annotations

import snntorch as snn
from torch import nn

HIDDEN = {"init_hidden": True}


class Between(nn.Module):
    """A linear layer and neurons, with a function between."""

    def __init__(self, function) -> None:
        super().__init__()
        self.fc, self.lif, self.function = nn.Linear(4, 4), snn.Leaky(0.9, **HIDDEN), function

    def forward(self, x):
        return self.lif(self.function(self.fc(x)))


def small_net():
    return nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.9, **HIDDEN))
