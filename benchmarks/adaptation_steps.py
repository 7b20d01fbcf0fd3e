"""Adaptation of a readout over the steps of a sample: frozen against adapted, on digits in a changed world.

    python benchmarks/adaptation_steps.py [--steps 4 16 50] [--per-class 10] [--seed 0]

For each number of steps a network of 64 hidden neurons is trained on scikit-learn's digits and lowered. Its
readout then learns from a few labelled samples of each world (:func:`biril_nm.studies.finetuning.adapt`); the
test digits of that world were not seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
from measuring import say
from section import Section, Size, table

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import SHIFTS, load_data, make_loaders
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.export import lower, to_nir
from biril_nm.studies.adaptation import samples_per_class
from biril_nm.studies.finetuning import adapt

STEPS, PER_CLASS, EPOCHS = (4, 16, 50), 10, 10
# Name -> shift and its amount; None leaves the pictures as they are.
WORLDS: dict[str, tuple[str, float | None] | None] = {
    "unchanged": None,
    "rotated by 12 degrees": ("rotated", 12.0),
    "rotated by 45 degrees": ("rotated", None),
    "noisy": ("noisy", None),
}


def seen(world: str, values: np.ndarray, draw: int) -> np.ndarray:
    """Pictures as a world shows them."""
    chosen = WORLDS[world]
    if chosen is None:
        return values
    name, amount = chosen
    more = {} if amount is None else {"amount": amount}
    return SHIFTS[name](values, 0, draw=draw, **more)


def accuracies(
    n_steps: int, per_class: int, seed: int, epochs: int = EPOCHS, worlds: Iterable[str] = WORLDS
) -> list[str]:
    """Accuracy in each world in %, frozen and adapted."""
    data = load_data("digits")
    coding = Coding("direct", n_steps)
    config = bnm.ModelConfig(input_shape=data.input_shape, hidden=(64,), coding=coding)
    net = bnm.build_model("mlp", config, seed=seed)
    plain = bnm.TrainConfig(schedule="B", epochs=epochs, tensorboard=False, curves=False)
    bnm.fit(net, make_loaders(data), plain)
    graph = lower(to_nir(net))
    cells = []
    for world in worlds:
        test = seen(world, data.test.values(), 1)
        known = samples_per_class(data.train.labels, per_class, 10, seed)
        spikes = coding.encode(seen(world, data.train.values(known), 0))
        adapted, _ = adapt(graph, spikes, data.train.labels[known], seed=seed)
        scores = [
            100 * evaluate_graph(each, test, data.test.labels, coding).accuracy
            for each in (graph, adapted)
        ]
        cells.append(f"{scores[0]:.1f}, {scores[1]:.1f}")
    return cells


def section(size: Size) -> Section:
    """One row for each number of steps."""
    worlds, per_class, epochs = size.of((list(WORLDS), PER_CLASS, EPOCHS), (["noisy"], 2, 1))
    rows = []
    for n_steps in size.of(STEPS[:2], STEPS[:1]):
        say(f"  adaptation: {n_steps} steps")
        rows.append((str(n_steps), *accuracies(n_steps, per_class, 0, epochs, worlds)))
    text = (
        f"scikit-learn's digits, 64 hidden neurons, {per_class} labelled samples per class of each world; "
        "accuracy on test digits in %: frozen, adapted.\n\n"
    )
    return Section("Adaptation", (), text + table(("steps", *worlds), rows))


def main() -> None:
    """Print one row for each number of steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--per-class", type=int, default=PER_CLASS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'steps':>5}", *(f"{world:>22}" for world in WORLDS), "  (frozen, adapted; %)")
    for n_steps in options.steps:
        cells = accuracies(n_steps, options.per_class, options.seed)
        print(f"{n_steps:5d}", *(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
