"""A live stream: events go in as they come, spikes come out, and memory does not grow.

    python examples/live_stream.py --seconds 5                    # random events, made here
    python my_sensor.py | python examples/live_stream.py --stdin  # lines of "MICROSECONDS CHANNEL"

The events of a millisecond are one step, which ends when an event of a later millisecond comes. Lines out are
"MILLISECOND NEURON", on the sensor's clock, which may start anywhere. A session keeps u, v and the spikes
under way, and nothing else: a stream may run for days.
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
SILENCE = 250  # steps without events, after which u and v of detector() are 0 whatever they were
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


def steps(events: Iterable[Event]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(step, its events ``(1, CHANNELS)``) from the first event on; several on one channel count as one.

    Steps after more than ``SILENCE`` without events are left out: the network is at rest and stays there.
    """
    now, current = -1, np.zeros((1, CHANNELS), np.uint8)  # -1: before the first event
    for time_us, channel in events:
        start, step = max(now, 0) * STEP_US, time_us // STEP_US
        if time_us < start or not 0 <= channel < CHANNELS:
            what = f"event '{time_us} {channel}' comes at {start} us; expected rising times"
            raise ValueError(f"{what}, and channels 0 to {CHANNELS - 1}. Check the sensor")
        for past in range(now, min(step, now + 1 + SILENCE)) if now >= 0 else ():
            yield past, current
            current = np.zeros((1, CHANNELS), np.uint8)
        now = step
        current[0, channel] = 1
    if now >= 0:
        yield now, current


def spikes(graph: LoihiGraph, events: Iterable[Event]) -> Iterator[tuple[int, int]]:
    """(step, neuron) of each output spike, once an event of a later step has come or the stream has ended."""
    session = Simulator(graph)
    for now, step in steps(events):
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
