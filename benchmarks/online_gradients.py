"""Gradients of the online rules against backpropagation through time, over seeds.

    python benchmarks/online_gradients.py --seeds 6

Batch 16, 100 steps, 40 inputs, 64 neurons, 10 classes, float64; the loss of each step is the cross-entropy of
its output. A row says the largest relative error of a gradient, and the cosine for the weights from
the input; least and greatest of all seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.learner import online_gradients
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import NEURONS
from biril_nm.training.online.rules import OnlineRule

BATCH, N_STEPS, N_IN, N_HIDDEN, N_OUT = 16, 100, 40, 64, 10
GAIN, RATE, READOUT_DECAY = 8.0, 0.3, 0.9
D_RTRL = OnlineRule("d-rtrl")
WEIGHTS = "layers.0.projections.W.weight"
Grads = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """A network and a rule.

    Attributes:
        title: what the table calls it.
        neuron: kind of the hidden layer.
        rule: the rule.
        loop: factor of V; None: no V.
        leaky: whether the readout is leaky; else it has no memory.
    """

    title: str
    neuron: str
    rule: OnlineRule = D_RTRL
    loop: float | None = None
    leaky: bool = False


def _es(decay: float) -> OnlineRule:
    return OnlineRule("es-d-rtrl", decay=decay)


ROWS = (
    Row("D-RTRL, LIF", "lif"),
    Row("D-RTRL, RLIF with V = 0", "lif", loop=0.0),
    Row("D-RTRL, adLIF", "adlif"),
    Row("D-RTRL, RadLIF with V = 0", "adlif", loop=0.0),
    Row("the same, leaky readout of 0.9, `kappa`", "adlif", OnlineRule(kappa=True), 0.0, True),
    Row("the same without `kappa`", "adlif", D_RTRL, 0.0, True),
    Row("D-RTRL, RLIF, V orthogonal", "lif", loop=1.0),
    Row("D-RTRL, RadLIF, V orthogonal", "adlif", loop=1.0),
    Row("ES-D-RTRL, LIF, alpha 0.9", "lif", _es(0.9)),
    Row("ES-D-RTRL, adLIF, alpha 0.98", "adlif", _es(0.98)),
    Row("ES-D-RTRL, adLIF, alpha 0.5", "adlif", _es(0.5)),
    Row("ES-D-RTRL, RadLIF with V = 0, alpha 0.98", "adlif", _es(0.98), 0.0),
)


def network(row: Row, seed: int) -> OnlineNet:
    """The network of a row."""
    torch.manual_seed(seed)
    hidden = layer_of(NEURONS[row.neuron], N_IN, N_HIDDEN, row.loop is not None, torch.float64)
    with torch.no_grad():
        hidden.links()[0][1].weight.mul_(GAIN)
        if row.loop is not None:
            hidden.links()[1][1].weight.mul_(row.loop)
    kind = NEURONS["leaky_readout" if row.leaky else "linear_readout"]
    constants = {"al": READOUT_DECAY} if row.leaky else None
    return OnlineNet([hidden, layer_of(kind, N_HIDDEN, N_OUT, False, torch.float64, constants)])


def compare(row: Row, seed: int) -> tuple[float, float]:
    """Largest relative error of a parameter's gradient, and the cosine for the weights from the input."""
    net, random = network(row, seed), torch.Generator().manual_seed(1000 + seed)
    x = (torch.rand(N_STEPS, BATCH, N_IN, generator=random) < RATE).double()
    labels = torch.randint(0, N_OUT, (BATCH,), generator=random)

    def loss(output: Tensor, t: int) -> Tensor:
        del t
        return functional.cross_entropy(output, labels)

    def backward() -> None:
        torch.stack([loss(out, 0) for out in net(x).spikes]).sum().backward()

    expected = _gradients(net, backward)
    found = _gradients(net, lambda: online_gradients(net, x, row.rule, loss))
    errors = [float((found[k] - g).norm() / g.norm()) for k, g in expected.items() if g.any()]
    a, b = found[WEIGHTS].flatten(), expected[WEIGHTS].flatten()
    return max(errors), float(functional.cosine_similarity(a, b, 0))


def _gradients(net: OnlineNet, run: Callable[[], object]) -> Grads:
    net.zero_grad(set_to_none=True)
    run()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = range(parser.parse_args().seeds)
    print("| against backpropagation through time | relative error | cosine |")
    print("| --- | --- | --- |")
    for row in ROWS:
        errors, cosines = zip(*(compare(row, seed) for seed in seeds))
        error = f"{min(errors):.2g} to {max(errors):.2g}"
        print(f"| {row.title} | {error} | {min(cosines):.4f} to {max(cosines):.4f} |", flush=True)


if __name__ == "__main__":
    main()
