"""Networks of one step whose forward is any function, and folded runs compared with the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.models.running import run_in_loop, run_steps

N_STEPS, BATCH, IN, HIDDEN, OUT = 5, 4, 20, 30, 4
Step = Callable[[Any, Tensor], Any]


def leaky(**changes: Any) -> snn.Leaky:
    return snn.Leaky(beta=0.9, **{"init_hidden": True, "threshold": 0.3, **changes})


class Dropped(nn.Dropout):
    """A dropout of the user's own."""


class OneStep(nn.Module):
    """A network whose forward of one step is ``step(self, x)``."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.f, self.l, self.g, self.k = (
            nn.Linear(IN, HIDDEN),
            leaky(),
            nn.Linear(HIDDEN, OUT),
            leaky(),
        )
        self.skip = nn.Linear(IN, HIDDEN)
        self.both, self.recurrent = (
            leaky(output=True),
            snn.RLeaky(0.8, all_to_all=False, init_hidden=True),
        )
        self.swish, self.elu = nn.Hardswish(inplace=True), nn.ELU(inplace=True)
        self.dropped = Dropped()
        self.register_buffer("scale", torch.full((1,), 0.5))
        self.step = step

    def forward(self, x: Tensor) -> Any:
        return self.step(self, x)

    def rest(self, y: Tensor) -> Any:
        """From the current of the hidden neurons on."""
        return self.k(self.g(self.l(y)))


def images(constant: bool) -> Tensor:
    x = (torch.rand(N_STEPS, BATCH, IN, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    return x[:1].clone().expand(x.shape) if constant else x


def compare(net: nn.Module, x: Tensor) -> None:
    """Spikes and gradients of both ways, in train mode."""
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    found, outputs = [], []
    for run in (run_steps, run_in_loop):
        net.load_state_dict(kept)
        net.zero_grad()
        torch.manual_seed(1)
        output = run(net, x.clone() if x.stride(0) else x[:1].clone().expand(x.shape)).output
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        outputs.append(output.detach())
        found.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    assert 0 < outputs[1].mean() < 1
    assert torch.equal(*outputs)
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-4)
