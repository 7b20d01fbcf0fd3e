"""A closed loop: two spiking neurons balance Gymnasium's CartPole, step by step.

    pip install "biril-nm[control]"
    python examples/cartpole.py

The four values that the cart measures become eight messages of 7 bits, one for each value and sign. Neuron 0
pushes to the left, neuron 1 to the right. What the network received is run again in one piece at the end, and
must give the same. docs/tutorials/closed_loop.ipynb also learns the weights, by trial and error.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output

TOP = 127  # of a message of 7 bits
# Position, speed, angle (rad) and turning speed that give TOP.
LARGEST = np.array([2.4, 3.0, 0.21, 3.0])
WEIGHTS = (10, 20, 60, 60)  # even, as connections with both signs hold them
STEPS = 200


def messages(observation: NDArray[np.floating]) -> NDArray[np.int64]:
    """Four values as messages ``(1, 2, 4)``: those above zero, then those below."""
    whole = np.rint(np.clip(observation / LARGEST, -1, 1) * TOP).astype(int)
    return np.maximum([[whole, -whole]], 0)


def controller(weights: tuple[int, ...]) -> LoihiGraph:
    """Neuron 1 spikes where the weighted sum of the values is above zero, neuron 0 where it is below."""
    right = np.array([*weights, *(-weight for weight in weights)])
    nodes = {
        "cart": Input((2, 4), message_bits=7),
        "fc": Dense([-right, right]),
        "push": Neurons((2,), vth=0, du=4095, dv=4095),  # forget at once
        "out": Output(),
    }
    return LoihiGraph(nodes, (("cart", "fc"), ("fc", "push"), ("push", "out")))


def balance(graph: LoihiGraph, seed: int, n_steps: int = STEPS) -> tuple[int, NDArray, NDArray]:
    """Steps until the pole falls, at most ``n_steps``; what the network received, and its spikes."""
    world = gymnasium.make("CartPole-v1")
    observation, _ = world.reset(seed=seed)
    session, action = Simulator(graph), 0
    received, sent = [], []
    for _ in range(n_steps):
        received.append(messages(observation))
        sent.append(session.step(received[-1]))
        left, right = sent[-1][0]
        action = int(right) if left or right else 1 - action  # undecided: the other side
        observation, _, fell, *_ = world.step(action)
        if fell:
            break
    world.close()
    return len(sent), np.array(received), np.array(sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=5)
    graph = controller(WEIGHTS)
    for seed in range(parser.parse_args().episodes):
        n_steps, received, sent = balance(graph, seed)
        again = simulate(graph, received)["push"].s
        equal = "equal" if np.array_equal(again, sent) else "DIFFERENT"
        print(
            f"start {seed}: {n_steps} of {STEPS} steps, {sent.sum()} spikes; in one piece: {equal}"
        )


if __name__ == "__main__":
    main()
