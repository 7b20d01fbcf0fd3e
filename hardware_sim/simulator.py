"""``simulate``: the exact integer simulation of a LoihiGraph, in node time and in chip time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import biril_nm
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.blocks import RunClock, run
from biril_nm.hardware_sim.engine.feeds import Feed, StreamFeed, make_feeds
from biril_nm.hardware_sim.engine.program import Program, compile_graph
from biril_nm.hardware_sim.engine.recorder import Recorder
from biril_nm.hardware_sim.kernels import loops
from biril_nm.hardware_sim.kernels.jit import is_loaded
from biril_nm.hardware_sim.learning.stream import simulate_learning
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import NodeRecording, Recording, recorded_nodes, split_variables
from biril_nm.recording.folder import HEADER, RecordingFolder
from biril_nm.storage import atomic_directory

__all__ = ["simulate"]

logger = logging.getLogger(__name__)


def simulate(
    graph: LoihiGraph,
    spikes: Any,
    record: Iterable[str] | str = ("s",),
    nodes: Iterable[str] | None = None,
    n_threads: int | None = None,
    learn: bool = False,
    record_to: str | Path | None = None,
    force: bool = False,
) -> Recording:
    """Run a graph on integers, bit for bit as lava-nc 0.10.0 ``fixed_pt`` does.

    Every sample starts from rest. Weights of Dense and Sparse pass Lava's preparation
    (:func:`biril_nm.loihi.fixed_point.prepare_weights`) first, those of Conv do not.

    Args:
        graph: the integer network.
        spikes: integers (n_steps, batch, *shape), or a dict of them by input name. Binary inputs
            spike where they are not 0; graded ones carry ``0 .. 2**message_bits - 1``. One image
            repeated by ``np.broadcast_to`` is accumulated once.
        record: variables to record, of "s", "u", "v"; may be empty. With ``learn`` also "w", "t", "d"
            and "x1", "x2", "y1", "y2", "y3" of plastic connections, at every chip step.
        nodes: names of the Neurons nodes to record; all by default.
        n_threads: threads over samples; all CPUs by default. Learning runs in one.
        learn: whether plastic connections change. If so, samples follow each other in one stream, in
            chip time (:mod:`biril_nm.hardware_sim.learning`); with False their weights are frozen.
        record_to: folder to record to instead of memory, complete or not there at all; the recording
            maps its arrays, and ``Recording.load(folder)`` finds them again. Together with memory-mapped
            ``spikes`` (``np.load(file, mmap_mode="r")``) streams of any length fit. Not for runs that learn.
        force: whether an existing folder is replaced.

    Returns:
        Recordings in node time, spike counts and last membrane potentials of every node; recorded
        arrays are (n_steps, batch, *shape), s as uint8, u and v as int32. After learning, ``graph``
        is the learned graph, ``connections`` holds what was recorded of plastic connections, and
        ``v_last`` knows the nodes whose v was recorded and the read-out.

    Raises:
        ConfigError: an argument, shape or dtype that does not fit.
        RangeError: payloads or weights that Lava could not carry.
    """
    _check_learn(graph, learn)
    variables, learning_variables = split_variables(record, learn)
    recorded = recorded_nodes(graph, nodes)
    threads = _threads(n_threads)
    feeds = make_feeds(graph, spikes, learn)
    if learn:
        if record_to is not None:
            raise ConfigError("a run that learns records to memory only; leave record_to out")
        return simulate_learning(graph, feeds, variables, learning_variables, recorded)
    program = compile_graph(graph)
    n_steps, batch = next(iter(feeds.values())).values.shape[:2]
    if not (is_loaded(loops.advance) or is_loaded(loops.run)):
        logger.info(
            "loading the compiled kernels; the first run on a machine compiles them (seconds)"
        )
    meta = {
        "engine": "biril_nm.hardware_sim",
        "version": biril_nm.__version__,
        "n_steps": n_steps,
        "batch": batch,
    }
    probes = (program, n_steps, batch, recorded, variables)
    if record_to is None:
        recorder = Recorder(*probes)
        run(program, feeds, RunClock(n_steps, batch), recorder, threads)
        traces: Mapping[str, NodeRecording] = recorder.traces()
    else:
        with atomic_directory(record_to, force, folder_with=HEADER) as part:
            folder = RecordingFolder(part, (batch, n_steps))
            recorder = Recorder(*probes, folder)
            run(program, feeds, RunClock(n_steps, batch), recorder, threads)
            folder.close(program.shapes, {"n_spikes": recorder.n_spikes, "meta": meta})
        traces = Recording.load(record_to)

    def chip() -> Mapping[str, NodeRecording]:
        return _chip_time(graph, program, feeds, recorded, variables)

    return Recording(traces, recorder.n_spikes, recorder.v_last(), chip, meta)


def _chip_time(
    graph: LoihiGraph,
    program: Program,
    feeds: Mapping[str, Feed],
    nodes: Iterable[str],
    variables: Iterable[str],
) -> dict[str, NodeRecording]:
    """All samples in one stream, as the chip's clock counts: (n_chip_steps, *shape) per variable.

    Node n is cleared at chip steps ``c`` with ``(c - 1) % period == latency % period``; before its
    first sample it runs freely. Where spikes can arrive late (slack), nodes rest outside of the
    steps of a sample instead, so that no sample disturbs the next.
    """
    n_steps, batch = next(iter(feeds.values())).values.shape[:2]
    period = graph.sample_period(n_steps)
    length = (batch - 1) * period + n_steps + max(program.latency.values())
    streams = {
        name: StreamFeed(feed.values, feed.shape, feed.graded, period)
        for name, feed in feeds.items()
    }
    recorder = Recorder(program, length, 1, nodes, variables)
    gate = n_steps if program.max_slack > 0 else 0
    run(program, streams, RunClock(length, 1, True, period, gate), recorder, n_threads=1)
    return {
        name: NodeRecording(
            **{key: np.asarray(array)[:, 0] for key, array in trace.variables().items()}
        )
        for name, trace in recorder.traces().items()
    }


def _check_learn(graph: LoihiGraph, learn: bool) -> None:
    if learn and not graph.plastic:
        raise ConfigError(
            "learn=True, but no connection of the graph has a learning rule; make one plastic with "
            "graph.with_node(name, rule=...) or biril export --plastic NAME=RULE"
        )


def _threads(n_threads: int | None) -> int:
    if n_threads is None:
        return max(
            1,
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1,
        )
    if n_threads < 1:
        raise ConfigError(f"n_threads is {n_threads}; at least 1 is needed")
    return int(n_threads)
