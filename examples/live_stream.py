"""A live stream: events go in as they come, spikes come out, and memory does not grow.

    python examples/live_stream.py --seconds 5                    # random events, made here
    python my_sensor.py | python examples/live_stream.py --stdin  # lines of "MICROSECONDS CHANNEL"

The events of a millisecond are one step. Lines out are "MILLISECOND NEURON". A session keeps u, v and the
spikes under way, and nothing else: a stream may run for days.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim import Simulator
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output

CHANNELS, NEURONS, STEP_US = 16, 4, 1000
Event = Iterable[int]  # microseconds, channel


def detector(seed: int = 0) -> LoihiGraph:
    """Each neuron sums channels of its own, against the others, over some milliseconds."""
    random = np.random.default_rng(seed)
    own = np.repeat(np.eye(NEURONS, dtype=int), CHANNELS // NEURONS, axis=1)
    nodes = {
        "events": Input((CHANNELS,)),
        "fc": Dense(2 * np.where(own == 1, random.integers(20, 40, own.shape), -8)),
        "lif": Neurons((NEURONS,), vth=150, dv=410),  # tau = 10 steps
        "out": Output(),
    }
    return LoihiGraph(nodes, (("events", "fc"), ("fc", "lif"), ("lif", "out")))


def steps(events: Iterable[Event]) -> Iterator[NDArray[np.uint8]]:
    """The events of each step, ``(1, CHANNELS)``; several on one channel count as one."""
    now, current = 0, np.zeros((1, CHANNELS), np.uint8)
    for time_us, channel in events:
        if time_us < now * STEP_US or not 0 <= channel < CHANNELS:
            what = f"event '{time_us} {channel}' comes at {now * STEP_US} us; expected rising times"
            raise ValueError(f"{what}, and channels 0 to {CHANNELS - 1}. Check the sensor")
        while now < time_us // STEP_US:
            yield current
            now, current = now + 1, np.zeros((1, CHANNELS), np.uint8)
        current[0, channel] = 1
    yield current


def spikes(graph: LoihiGraph, events: Iterable[Event]) -> Iterator[tuple[int, int]]:
    """(step, neuron) of each output spike, as soon as its step is over."""
    session = Simulator(graph)
    for now, step in enumerate(steps(events)):
        for neuron in np.flatnonzero(session.step(step)[0]):
            yield now, int(neuron)


def random_events(seconds: float, seed: int = 0) -> Iterator[Event]:
    """About 2,000 events a second; every tenth of a second other channels are busy."""
    random, now = np.random.default_rng(seed), 0.0
    while (now := now + random.exponential(500)) < seconds * 1e6:
        busy = now // 100_000 % NEURONS if random.random() < 0.7 else random.integers(NEURONS)
        yield int(now), int(CHANNELS // NEURONS * (busy + random.random()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stdin", action="store_true", help="read events from lines")
    parser.add_argument("--seconds", type=float, default=1.0, help="of random events")
    args = parser.parse_args()
    lines = (map(int, line.split()) for line in sys.stdin)
    for now, neuron in spikes(detector(), lines if args.stdin else random_events(args.seconds)):
        print(now, neuron, flush=True)


if __name__ == "__main__":
    main()
