"""The readout's memory as one more state of a layer: ``z_t = kappa z_{t-1} + s_t``.

With it D-RTRL is exact for one hidden layer without loops, where the readout is
``u_t = kappa u_{t-1} + c y_t`` with constants kappa and c, and the neurons below send element by element. All
else is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biril_nm.errors import ConfigError
from biril_nm.training.online.blocks import dot
from biril_nm.training.online.layer import OnlineLayer
from biril_nm.training.online.neurons.neuron import Row, State, differentiate

__all__ = ["check_separate", "readout_decay", "slopes", "with_filter"]

SAMPLES = 4  # random states on which neurons are tried
LEAVE_OUT = "or leave kappa out"

Parts = tuple[tuple[Row, ...], tuple[Row, ...], tuple[Row, ...], Row]


def readout_decay(layer: OnlineLayer) -> float:
    """The one decay of a leaky readout, 0 of one without memory.

    Raises:
        ConfigError: its neurons have different decays, or such that learn; or it is not a leaky readout.
    """
    al = layer.values().get("al")
    if al is not None and (al.requires_grad or float(al.min()) != float(al.max())):
        learn = " and learn" if al.requires_grad else ""
        raise ConfigError(
            f"the decays of the readout are {float(al.min()):.4g} to {float(al.max()):.4g}{learn}; "
            f"expected one constant for kappa. Give the readout constants={{'al': 0.9}}, {LEAVE_OUT}"
        )
    learns = any(p.requires_grad for p in layer.own.values())
    if len(layer.neuron.states) == 1 and not learns:
        found = _constant_decay(layer)
        if found is not None:
            return found
    raise ConfigError(
        f"the readout has {layer.neuron.name} neurons; expected for kappa one state with one constant decay, "
        f"which is sent as it is. Use leaky_readout or linear_readout, {LEAVE_OUT}"
    )


def _constant_decay(layer: OnlineLayer) -> float | None:
    """D of the one state, if D and f are the same everywhere and the state is sent as it is."""
    state, *inputs = _random(layer, 1 + layer.neuron.channels)
    values = layer.values()
    d = differentiate(layer.neuron, (state,), tuple(inputs), values, ())
    sent = layer.neuron.send((state,), values).detach()
    entries = [e for e in (*d.states[0], *d.inputs[0]) if e is not None]
    linear = torch.equal(sent, state) and all(torch.allclose(e, e[:1, :1]) for e in entries)
    if not linear:
        return None
    decay = d.states[0][0]
    return 0.0 if decay is None else float(decay[0, 0])


def check_separate(layer: OnlineLayer) -> None:
    """Refuse neurons of which one sends what another one holds.

    Raises:
        ConfigError: with the kind.
    """
    weights, *found = _random(layer, 1 + len(layer.neuron.states))
    states = tuple(h.requires_grad_() for h in found)
    with torch.enable_grad():  # type: ignore[no-untyped-call]
        sent = layer.neuron.send(states, layer.values())
    weighted = torch.autograd.grad(sent, states, weights, retain_graph=True, allow_unused=True)
    for part, slope in zip(weighted, slopes(sent, states)):
        if part is None or slope is None:
            continue
        if not torch.allclose(part, weights * slope, rtol=1e-4, atol=1e-6):
            raise ConfigError(
                f"{layer.neuron.name} neurons send what depends on others of their layer; expected for "
                f"kappa neurons that send element by element, such as lif. Use them, {LEAVE_OUT}"
            )


def _random(layer: OnlineLayer, number: int) -> State:
    like = next(layer.parameters())
    random = torch.Generator().manual_seed(0)
    shape = (SAMPLES, layer.size)
    return tuple(torch.randn(shape, generator=random).to(like) for _ in range(number))


def slopes(sent: Tensor, leaves: State) -> Row:
    """``ds_t/dh_t`` of neurons that send element by element."""
    ones = torch.ones_like(sent)
    return torch.autograd.grad(sent, leaves, ones, retain_graph=True, allow_unused=True)


def with_filter(parts: Parts, slope: Row, error: Tensor | None, kappa: float) -> Parts:
    """D, f, g and signals with one more state, ``z_t = kappa z_{t-1} + s_t``.

    Its row of D is ``(sum_k ds/dh_k D_k, kappa)``, the loss reaches the layer through it alone.
    """
    d, f, g, _ = parts
    row = tuple(dot(slope, column) for column in zip(*d))
    like = next(e for e in (*slope, *row) if e is not None)
    wide = tuple((*old, None) for old in d)
    wide += ((*row, torch.full_like(like, kappa)),)
    longer = [tuple((*column, dot(slope, column)) for column in columns) for columns in (f, g)]
    return wide, longer[0], longer[1], (*(None,) * len(d), error)
