"""``simulate``: the exact integer simulation of a LoihiGraph, in node time and in chip time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from biril_nm.arguments import Count, checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.blocks import RunClock, run
from biril_nm.hardware_sim.engine.feeds import Feed, make_feeds
from biril_nm.hardware_sim.engine.first_run import said_while_compiling
from biril_nm.hardware_sim.engine.program import Program, compile_graph
from biril_nm.hardware_sim.engine.recorder import Recorder, Wanted, run_meta
from biril_nm.hardware_sim.engine.stream import chip_stream
from biril_nm.hardware_sim.kernels import loops
from biril_nm.hardware_sim.learning.stream import simulate_learning
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import NodeRecording, Recording, recorded_nodes, split_variables
from biril_nm.recording.folder import HEADER, RecordingFolder
from biril_nm.storage import atomic_directory
from biril_nm.storage.platform import usable_cpus

__all__ = ["simulate"]

logger = logging.getLogger(__name__)


@checked
def simulate(
    graph: LoihiGraph,
    spikes: Any,
    record: Iterable[str] | str = ("s",),
    nodes: Iterable[str] | None = None,
    n_threads: Count | None = None,
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
            carry 0 and 1; graded ones ``0 .. 2**message_bits - 1``, signed ones the negatives too. One image
            repeated by ``np.broadcast_to`` is accumulated once.
        record: variables to record, of "s", "u", "v"; may be empty. With ``learn`` also "w", "t", "d"
            and "x1", "x2", "y1", "y2", "y3" of plastic connections, at every chip step.
        nodes: names of the Neurons nodes to record; all by default.
        n_threads: threads over samples, and, where they are more than samples, over the targets of large
            Sparse connections; all CPUs by default. Learning runs in one.
        learn: whether plastic connections change. If so, samples follow each other in one stream, in
            chip time (:mod:`biril_nm.hardware_sim.learning`); with False their weights are frozen.
        record_to: folder to record to instead of memory, complete or not there at all; the recording
            maps its arrays, and ``Recording.load(folder)`` finds them again. Together with memory-mapped
            ``spikes`` (``np.load(file, mmap_mode="r")``) streams of any length fit. Not for runs that learn.
        force: whether an existing folder is replaced.

    Returns:
        Recordings in node time, spike counts and last membrane potentials of every node; recorded
        arrays are (n_steps, batch, *shape), s as uint8, u and v as int32. After learning, ``graph``
        is the learned graph at the end of the run, which waits for the last answer of the slowest
        population; ``connections`` holds what was recorded of plastic connections, and
        ``v_last`` knows the nodes whose v was recorded and the readout.

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
            raise ConfigError("a run that learns records to memory only. Leave record_to out")
        return simulate_learning(graph, feeds, variables, learning_variables, recorded)
    program = compile_graph(graph)
    wanted = dict.fromkeys(recorded, variables)
    with said_while_compiling(loops.advance, loops.run):
        if record_to is None:
            recorder, meta = _record(program, feeds, wanted, threads)
            found: Mapping[str, NodeRecording] = recorder.recordings()
        else:
            with atomic_directory(record_to, force, folder_with=HEADER) as part:
                recorder, meta = _record(program, feeds, wanted, threads, part)
            found = Recording.load(record_to)

    def chip() -> Mapping[str, NodeRecording]:
        return _chip_time(graph, program, feeds, wanted)

    return Recording(found, recorder.n_spikes, recorder.v_last(), chip, meta)


def _record(
    program: Program,
    feeds: Mapping[str, Feed],
    wanted: Mapping[str, tuple[str, ...]],
    n_threads: int,
    path: Path | None = None,
) -> tuple[Recorder, dict[str, Any]]:
    """Run all samples in node time; records to memory, or to a folder at ``path``."""
    n_steps, batch = next(iter(feeds.values())).values.shape[:2]
    meta = run_meta(n_steps, batch)
    folder = None if path is None else RecordingFolder(path, (batch, n_steps))
    recorder = Recorder(Wanted.of(program, wanted), n_steps, batch, folder)
    run(program, feeds, RunClock(n_steps, batch), recorder, n_threads)
    if folder is not None:
        folder.close(program.shapes, {"n_spikes": recorder.n_spikes, "meta": meta})
    return recorder, meta


def _chip_time(
    graph: LoihiGraph,
    program: Program,
    feeds: Mapping[str, Feed],
    wanted: Mapping[str, tuple[str, ...]],
) -> dict[str, NodeRecording]:
    """All samples in one stream: (n_chip_steps, *shape) per variable."""
    stream = chip_stream(graph, program, feeds)
    recorder = Recorder(Wanted.of(program, wanted), stream.clock.n_steps, 1)
    run(program, stream.feeds, stream.clock, recorder, n_threads=1)
    return {
        name: NodeRecording(**{key: array[0] for key, array in recorder.rows(name).items()})
        for name in wanted
    }


def _check_learn(graph: LoihiGraph, learn: bool) -> None:
    if learn and not graph.plastic:
        raise ConfigError(
            "learn=True, but no connection of the graph has a learning rule. Make one plastic with "
            "graph.with_node(name, rule=...) or biril export --plastic NAME=RULE"
        )


def _threads(n_threads: Count | None) -> int:
    return usable_cpus() if n_threads is None else n_threads
