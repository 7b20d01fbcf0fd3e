"""The proofs of docs/limits.md run, and what they are about is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.errors import BirilError
from biril_nm.export import to_nir

TEXT = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_proofs_run(index):
    assert "assert" in BLOCKS[index]
    exec(compile(BLOCKS[index], "docs/limits.md", "exec"), {})


REFUSED = {
    "behind": lambda: (nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), snn.Leaky(0.9, **ZERO)),
    "one step later": lambda: (nn.Conv2d(1, 2, 6), nn.Flatten(), inhibited()),
    "clears both": lambda: (nn.Flatten(), nn.Linear(36, 3), snn.Alpha(0.9, 0.8, init_hidden=True)),
    "LayerNorm": lambda: (nn.Flatten(), nn.Linear(36, 3), nn.LayerNorm(3), snn.Leaky(0.9, **ZERO)),
    "gates multiply": lambda: (nn.Flatten(), snn.SLSTM(36, 3, init_hidden=True)),
}


def inhibited():
    return snn.Leaky(0.9, inhibition=True, **ZERO)


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize("message", REFUSED)
def test_what_the_proofs_are_about_is_refused(message):
    with pytest.raises(BirilError, match=message):
        to_nir(nn.Sequential(*REFUSED[message]()), torch.zeros(1, 1, 6, 6), dt_s=1e-3)
