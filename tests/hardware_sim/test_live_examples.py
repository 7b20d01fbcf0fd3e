"""examples/cartpole.py and examples/live_stream.py: a world in the loop, and events as they come."""

from __future__ import annotations

import io
import itertools
import runpy
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import LoihiGraph

EXAMPLES = Path(__file__).parents[2] / "examples"
STREAM = runpy.run_path(str(EXAMPLES / "live_stream.py"))


def test_the_pole_stands_for_200_steps_from_any_start():
    pytest.importorskip("gymnasium", reason='pip install "biril-nm[control]" brings it')
    cart = runpy.run_path(str(EXAMPLES / "cartpole.py"))
    graph = cart["controller"](cart["WEIGHTS"])
    for seed in range(5):
        n_steps, received, sent = cart["balance"](graph, seed, 200)
        assert n_steps == 200
        assert sent.any(axis=0).all()  # both sides push
        np.testing.assert_array_equal(simulate(graph, received)["push"].s, sent)
    turned = cart["controller"](tuple(-weight for weight in cart["WEIGHTS"]))
    assert cart["balance"](turned, 0, 200)[0] < 50


def test_a_stream_gives_what_one_run_gives():
    graph: LoihiGraph = STREAM["detector"]()
    events = list(STREAM["random_events"](0.3))
    times, frames = map(np.array, zip(*STREAM["steps"](iter(events))))
    assert {(time // 1000, channel) for time, channel in events} == {
        (int(times[step]), int(channel)) for step, _, channel in np.argwhere(frames)
    }
    found = list(STREAM["spikes"](graph, iter(events)))
    steps, _, neurons = np.nonzero(simulate(graph, frames)["lif"].s)
    assert found == list(zip(times[steps].tolist(), neurons.tolist()))
    assert len(set(neurons)) == 3  # those whose channels were busy in three tenths of a second


@pytest.mark.parametrize("start", [0, 123_456_789, 10**18])
def test_silence_is_left_out_and_changes_no_spike(start):
    """From any clock, and over gaps that would take years; the states at rest are those of every step."""
    graph: LoihiGraph = STREAM["detector"]()
    short, busy = 2 * STREAM["SILENCE"], [(t, 4 * (t // 2) + c) for t in range(8) for c in range(4)]
    events = [(start + 1000 * t, c) for t, c in busy]

    def found(gap: int) -> list[tuple[int, int]]:
        later = [(time + 1000 * gap, channel) for time, channel in events]
        return [
            (step - start // 1000 - gap * (step - start // 1000 >= gap), neuron)
            for step, neuron in STREAM["spikes"](graph, iter(events + later))
        ]

    every = np.zeros((short + 8, 1, 16), np.uint8)
    for t, channel in busy:
        every[[t, t + short], 0, channel] = 1
    steps, _, neurons = np.nonzero(simulate(graph, every)["lif"].s)
    assert len(steps) > 2
    assert found(short) == found(10**12) == list(zip((steps % short).tolist(), neurons.tolist()))


def test_after_silence_any_state_is_at_rest():
    session = Simulator(STREAM["detector"]())
    frame = np.zeros((1, 16), np.uint8)
    session.step(frame)
    state = {key: np.array(value) for key, value in session.state.items()}
    voltage = next(key for key in state if key.endswith("/v/lif"))
    for extreme in (-(2**23) + 1, 2**23 - 1):
        state[voltage][...] = extreme
        session.load_state(state)
        for _ in range(STREAM["SILENCE"]):
            session.step(frame)
        assert not session.state[voltage].any()


def test_spikes_come_out_before_the_stream_ends():
    endless = ((1000 * step, channel) for step in itertools.count() for channel in range(4))
    first = list(itertools.islice(STREAM["spikes"](STREAM["detector"](), endless), 5))
    assert {neuron for _, neuron in first} == {0}


def test_memory_does_not_grow_with_the_stream():
    def peak(n_steps: int) -> int:
        events = ((1000 * step, step % 16) for step in range(n_steps))
        tracemalloc.start()
        n_spikes = sum(1 for _ in STREAM["spikes"](STREAM["detector"](), events))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n_spikes or n_steps < 100
        return found

    peak(50)  # imports and caches
    assert peak(800) < 1.5 * peak(100) + 10_000


@pytest.mark.parametrize("events", [[(5000, 1), (3999, 1)], [(0, 16)], [(0, -1)], [(-1, 0)]])
def test_events_out_of_place_are_refused(events):
    with pytest.raises(
        ValueError, match=r"event '-?\d+ -?\d+' comes at .* us; expected rising times"
    ):
        list(STREAM["steps"](events))


def test_lines_are_read_from_a_pipe(monkeypatch, capsys):
    lines = "".join(f"{1000 * step} {channel}\n" for step in range(20) for channel in range(4, 8))
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    monkeypatch.setattr(sys, "argv", ["live_stream.py", "--stdin"])
    STREAM["main"]()
    said = capsys.readouterr().out.split("\n")
    assert said[0].endswith(" 1")
    assert len(said) > 5
