"""How the gradient of ES-D-RTRL moves away from that of backpropagation while a network learns a task.

    python benchmarks/online_cosines.py --task dms --every 20 --seed 100

Each 25 batches: loss, accuracy of these batches, share of neurons that spike in a step, learning rate, and
for each weight the cosine with the gradient of backpropagation through time on the same batch.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.rules import ES_D_RTRL, OnlineRule
from biril_nm.training.online.tasks import TASKS
from biril_nm.training.online.tasks.task import step_gradients

SHOWN = 25  # batches between two lines


def gradients(
    net: OnlineNet, x: Tensor, labels: Tensor, rule: OnlineRule | None
) -> tuple[dict[str, Tensor], Tensor, float]:
    """Gradients by name, outputs and loss of a batch."""
    net.zero_grad(set_to_none=True)
    out, loss = step_gradients(net, x, labels, rule)
    return {n: p.grad for n, p in net.named_parameters() if p.grad is not None}, out, loss


def main() -> None:
    """Train, and print a line each 25 batches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="dms")
    parser.add_argument("--batches", type=int, default=450)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--every", type=int, help="batches between two falls of the rate")
    given = parser.parse_args()
    task = TASKS[given.task]
    method = task.methods[ES_D_RTRL]
    method = replace(method, every=given.every or method.every)
    net, rule = task.make_net(given.seed, method.cut), method.rule(ES_D_RTRL)
    optimizer = torch.optim.Adam(net.parameters(), lr=method.lr)
    random, recent = torch.Generator().manual_seed(2 * given.seed), [0.0] * SHOWN
    for batch in range(1, given.batches + 1):
        x, labels = task.sample(random, task.batch)
        exact = gradients(net, x, labels, None)[0] if batch % SHOWN == 1 else {}
        found, out, loss = gradients(net, x, labels, rule)
        right = out[net.first_scored(len(out)) :].sum(0).argmax(1) == labels
        recent[batch % SHOWN] = float(right.float().mean())
        rate = method.lr * method.factor ** ((batch - 1) // method.every)
        if exact:
            with torch.no_grad():
                spikes = float(net(x, record=["layers.0"]).recorded["layers.0"].mean())
            each = ", ".join(
                f"{name.removeprefix('layers.').removesuffix('.weight')} "
                f"{float(cosine_similarity(found[name].flatten(), g.flatten(), 0)):.2f}"
                for name, g in exact.items()
            )
            sys.stdout.write(
                f"batch {batch}: loss {loss:.3f}, accuracy {sum(recent) / SHOWN:.1%}, spikes {spikes:.3f}, "
                f"lr {rate:.1e}; cosines {each}\n"
            )
            sys.stdout.flush()
        for name, parameter in net.named_parameters():
            parameter.grad = found.get(name)
        if method.clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), method.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        net.constrain()


if __name__ == "__main__":
    main()
