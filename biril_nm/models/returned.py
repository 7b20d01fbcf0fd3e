"""Which neurons' spikes a forward returns that cannot be traced: a trial with random numbers for spikes.

Spikes themselves do not say it: those of two populations are often equal, above all where none spikes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from biril_nm.models.carried import Unmarked
from biril_nm.models.tracer import UntraceableError, is_neuron

__all__ = ["first_of", "returned_neurons"]


def first_of(result: Any) -> Any:
    """The first tensor of a tuple or list, which may be nested."""
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    return result


@contextmanager
def _without_hooks(net: nn.Module) -> Iterator[None]:
    """Take hooks off, which may keep what they see, and put them on again."""
    held = [(m, m._forward_hooks, m._forward_pre_hooks) for m in net.modules()]
    try:
        for module, _, _ in held:
            module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for module, hooks, pre_hooks in held:
            module._forward_hooks, module._forward_pre_hooks = hooks, pre_hooks


def returned_neurons(net: nn.Module, forward: Callable[[], Tensor]) -> str | None:
    """Name of the neurons whose last spikes are the last step of what ``forward`` returns; None: of none.

    Args:
        net: the network, which stays as it is.
        forward: runs it over some steps, to ``(n_steps, batch, ...)``.

    Raises:
        UntraceableError: the forward has kept values of a trace.
    """
    generator = torch.Generator().manual_seed(0)
    sent: dict[str, Tensor] = {}

    def replace(name: str) -> Callable[..., Any]:
        def hook(_: Any, __: Any, result: Any) -> Any:
            spikes = first_of(result)
            noise = torch.rand(spikes.shape, generator=generator).to(spikes)
            sent[name] = noise.clone()  # which the forward may change in place
            return (noise, *result[1:]) if isinstance(result, (tuple, list)) else noise

        return hook

    try:
        with _without_hooks(net), Unmarked(net):
            for name, layer in net.named_modules():
                if is_neuron(layer):
                    layer.register_forward_hook(replace(name))
            last = forward()[-1]
    except UntraceableError:
        raise
    except Exception:  # of the forward, which takes no such spikes: they are not what it returns
        return None
    alike = [k for k, s in sent.items() if s.shape == last.shape and torch.equal(s, last)]
    return alike[0] if alike else None
