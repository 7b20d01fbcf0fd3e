"""Whether fit's training step computes what snnTorch's neurons compute step by step.

    python benchmarks/training_equal.py [--nets mnist] [--seeds 8] [--batch 64] [--threads 2]

One batch without BatchNorm: spikes must be equal, and gradients within 1e-5 (L2, of their size). Then the
mean loss of steps 40 to 50, with BatchNorm over all steps in both, must be within 2 % over the seeds. The
same loop from weights 1e-6 apart says how far apart two runs end by rounding alone.
"""

from __future__ import annotations

import argparse
import statistics

import snntorch as snn
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn import functional
from training import N_STEPS, SHAPES, Block, build, data, machine, scores_of_loop, stepper

from biril_nm.coding import Coding
from biril_nm.models import OwnNet

N_BATCHES, COUNTED, WITHIN = 50, 10, 0.02
LR = 0.005  # far enough from chaos that rounding stays small, and from a loss of zero


def over_steps(module: nn.Module, x: Tensor) -> Tensor:
    """The module on (T, B, ...): its neurons step by step, all other layers on all steps at once."""
    if isinstance(module, nn.Sequential):
        for child in module:
            x = over_steps(child, x)
        return x
    if isinstance(module, Block):
        short = over_steps(module.short_norm, over_steps(module.short, x))
        return over_steps(
            module.out, over_steps(module.second, over_steps(module.first, x)) + short
        )
    if isinstance(module, snn.Leaky):
        return torch.stack([module(step) for step in x])
    y: Tensor = module(x.flatten(0, 1))
    return y.unflatten(0, x.shape[:2])


def losses(name: str, seed: int, batch: int, kind: str) -> float:
    """The mean loss of the last steps of one run."""
    torch.manual_seed(seed)
    net = build(name)
    if kind == "apart":
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1 + 1e-6)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)

    def looped(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        utils.reset(net)
        scores = over_steps(net, images.expand(N_STEPS, *images.shape)).sum(0)
        loss = functional.cross_entropy(scores, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    step = stepper("fit", net, LR) if kind == "fit" else looped
    found = [step(*data(name, batch, 1000 * seed + i)) for i in range(N_BATCHES)]
    return statistics.fmean(found[-COUNTED:])


def same_losses(name: str, batch: int, seeds: int) -> bool:
    """Whether the losses after some training agree in the mean."""
    found = {
        kind: [losses(name, seed, batch, kind) for seed in range(seeds)]
        for kind in ("loop", "fit", "apart")
    }
    loop = statistics.fmean(found["loop"])
    for kind, words in (("fit", "fit"), ("apart", "loop, 1e-6 apart")):
        mean = statistics.fmean(found[kind])
        single = [abs(a / b - 1) for a, b in zip(found[kind], found["loop"])]
        print(
            f"{name}: mean loss of steps {N_BATCHES - COUNTED} to {N_BATCHES}, {seeds} seeds: "
            f"{loop:.4f} (loop), {mean:.4f} ({words}), {abs(mean / loop - 1):.2%} apart; "
            f"one seed {min(single):.2%} to {max(single):.2%}",
            flush=True,
        )
    return abs(statistics.fmean(found["fit"]) / loop - 1) < WITHIN


def driven(name: str) -> nn.Module:
    """A network without BatchNorm whose layers all fire."""
    net = build(name, norm=False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3.0)
    return net


def same_batch(name: str, batch: int) -> tuple[bool, float]:
    """Whether all outputs are equal, and the largest difference of gradients over their size (L2)."""
    torch.manual_seed(0)
    net = driven(name)
    images, labels = data(name, batch)
    x = images.expand(N_STEPS, *images.shape)
    own = OwnNet(net, Coding("direct", N_STEPS))
    out, found, names = own(x, record=True), [], list(own.neurons)
    seen: dict[str, list[Tensor]] = {key: [] for key in names}
    for scores in (lambda: out.scores, lambda: scores_of_loop(net, x)):
        net.zero_grad()
        hooks = [
            own.neurons[key].register_forward_hook(
                lambda *a, key=key: seen[key].append(a[2].detach())
            )
            for key in names
        ]
        functional.cross_entropy(scores(), labels).backward()  # type: ignore[no-untyped-call]
        for hook in hooks:
            hook.remove()
        found.append([p.grad.clone() for p in net.parameters()])
    equal = all(torch.equal(out.recorded[key], torch.stack(seen[key])) for key in names)
    fired = all(float(out.recorded[key].mean()) > 0 for key in names)
    pairs = [(float((a - b).norm()), float(b.norm())) for a, b in zip(*found)]
    return equal and fired, max(difference / size for difference, size in pairs if size)


def main() -> None:
    """Print the comparisons; exit with 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=["mnist"], choices=sorted(SHAPES))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(machine(args.threads), flush=True)
    good = True
    for name in args.nets:
        spikes, gradients = same_batch(name, args.batch)
        good &= spikes and gradients < 1e-5
        print(
            f"{name}: spikes {'equal' if spikes else 'DIFFER'}, gradients differ by {gradients:.1e}",
            flush=True,
        )
        good &= same_losses(name, args.batch, args.seeds)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
