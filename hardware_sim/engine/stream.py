"""Chip time: all samples of a run follow each other in one stream, as the chip's clock counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.engine.blocks import RunClock
from biril_nm.hardware_sim.engine.feeds import Feed, StreamFeed
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hw_graph import LoihiGraph

__all__ = ["ChipStream", "Stream", "chip_stream"]


@dataclass(frozen=True)
class Stream:
    """Inputs of a run, and its time.

    Attributes:
        feeds: the inputs.
        clock: of the run.
    """

    feeds: Mapping[str, Feed]
    clock: RunClock


@dataclass(frozen=True)
class ChipStream(Stream):
    """One stream of samples.

    Attributes:
        feeds: the inputs, one after the other.
        clock: node n is cleared at chip steps ``c`` with ``(c - 1) % period == latency % period``;
            before its first sample it runs freely. Where spikes can arrive late (slack), nodes rest
            outside of the steps of a sample instead, so that no sample disturbs the next.
        n_steps, batch: steps of a sample, and samples.
        latency: chip steps from input to node.
    """

    n_steps: int
    batch: int
    latency: Mapping[str, int]

    def inside(self, name: str, t0: int, n_steps: int) -> NDArray[np.bool_]:
        """Whether a node is within a sample, for chip steps t0 to t0 + n_steps - 1 counted from 0."""
        age = np.arange(t0, t0 + n_steps) - self.latency[name]
        period = self.clock.period
        return (age >= 0) & (age < self.batch * period) & (age % period < self.n_steps)

    def node_time(self, name: str, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows (chip steps, *shape) of a node as (n_steps, batch, *shape)."""
        starts = np.arange(self.batch) * self.clock.period + self.latency[name]
        return np.asarray(rows[starts[np.newaxis, :] + np.arange(self.n_steps)[:, np.newaxis]])


def chip_stream(graph: LoihiGraph, program: Program, feeds: Mapping[str, Feed]) -> ChipStream:
    """The stream of a run whose samples are ``feeds``."""
    n_steps, batch = next(iter(feeds.values())).values.shape[:2]
    period = graph.sample_period(n_steps)
    length = (batch - 1) * period + n_steps + max(program.latency.values())
    streams = {
        name: StreamFeed(feed.values, feed.node, feed.refuse, period)
        for name, feed in feeds.items()
    }
    gate = n_steps if program.max_slack > 0 else 0
    clock = RunClock(length, 1, chip_time=True, period=period, active=gate)
    return ChipStream(streams, clock, n_steps, batch, program.latency)
