"""Channels of Lava wake a process that waits for one of several, whatever came in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.lava_runs import load_lava

ROOM_S = 60  # a busy machine takes less; a lost wake-up takes all of it
ITEM = np.ones(1, np.int32)
pytestmark = pytest.mark.lava


def channel() -> tuple[Any, Any]:
    """Both ends of a channel with two places, in this process."""
    load_lava()
    from lava.magma.compiler.channels.pypychannel import PyPyChannel

    memory = SimpleNamespace(create_shared_memory=lambda n: SimpleNamespace(buf=bytearray(n)))
    made = PyPyChannel(SimpleNamespace(smm=memory), "from", "to", (1,), np.int32, 2)
    for port in (made.src_port, made.dst_port):
        port.start()
    return made.src_port, made.dst_port


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + ROOM_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def waiting(port: Any) -> threading.Thread:
    """A thread that waits until the port is ready."""
    from lava.magma.compiler.channels.pypychannel import CspSelector

    selector = CspSelector()
    thread = threading.Thread(target=selector.select, args=((port, lambda: None),), daemon=True)
    thread.start()
    until(lambda: port.observer is not None)
    with selector._cv:  # free once it waits
        return thread


def test_an_item_that_comes_while_the_one_before_is_taken_wakes_who_waits() -> None:
    source, sink = channel()
    begun, allowed, put = threading.Event(), threading.Event(), sink._queue.put_nowait

    def late(item: int) -> None:
        begun.set()
        assert allowed.wait(ROOM_S)
        put(item)

    source.send(ITEM)
    until(sink.probe)
    sink._queue.put_nowait = late
    source.send(ITEM)
    assert begun.wait(ROOM_S)
    sink.recv()
    thread = waiting(sink)
    allowed.set()
    thread.join(ROOM_S)
    assert not thread.is_alive() and sink.probe()


def test_a_free_place_wakes_who_waits() -> None:
    source, sink = channel()
    for _ in range(2):
        source.send(ITEM)
    thread = waiting(source)
    sink.recv()
    thread.join(ROOM_S)
    assert not thread.is_alive() and source.probe()


def test_ports_that_are_left_end_their_threads() -> None:
    for port in channel():
        port.join()
        port.thread.join(ROOM_S)
        assert not port.thread.is_alive()
