"""The Lava Process as users get it, failing runs, and what the back end refuses."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, RangeError
from biril_nm.export import get_backend
from biril_nm.export.lava.backend import LavaRunError, build, run_lava
from biril_nm.export.lava.bundle import run_lava as runner
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rules import PAIR
from tests.support.killable import ROOM_S
from tests.support.lava_cases import CASES, binary, chain, make
from tests.support.lava_runs import load_lava

pytestmark = pytest.mark.lava


@pytest.fixture(scope="module", autouse=True)
def lava() -> None:
    load_lava()


def shared_memory() -> set[str]:
    """Blocks of shared memory that no other process of the machine has mapped."""
    blocks = {path.name for path in Path("/dev/shm").glob("psm_*")}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        if maps.parent.name != str(os.getpid()):
            with contextlib.suppress(OSError):  # the process has ended, or is not ours
                blocks -= set(re.findall(r"/dev/shm/(psm_\w+)", maps.read_text()))
    return blocks


def user_run(graph: LoihiGraph, spikes: Any, monitored: str) -> tuple[Any, Any, Any]:
    """What a user writes: source, network, sink, Monitor, Lava's own choice of models."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.monitor.process import Monitor

    n_steps, batch = spikes.shape[:2]
    network = get_backend("lava").build(graph, n_steps=n_steps)
    n_rows = runner.chip_rows(network.description, n_steps, batch)
    with runner.quiet_lava():
        source = Source(data=runner.chip_input(spikes, network.period, n_rows))
        sink = Sink(shape=network.s_out.shape, buffer=n_rows)
        monitor = Monitor()
        source.s_out.connect(network.s_in)
        network.s_out.connect(sink.a_in)
        monitor.probe(network.variable(monitored, "v"), n_rows)
        try:
            network.run(RunSteps(num_steps=n_rows), Loihi2SimCfg(select_tag="fixed_pt"))
            out = np.moveaxis(sink.data.get(), -1, 0)
            (v,) = monitor.get_data()["network"].values()
        finally:
            network.stop()
    return network, out, v


@pytest.mark.parametrize(
    ("name", "output", "monitored"),
    [
        pytest.param("delays_of_each_kind", "lif4", "lif1", marks=pytest.mark.slow),
        pytest.param("recurrent_loops", "lif3", "lif2", marks=pytest.mark.slow),
        ("cuba_with_registers_per_neuron", "lif2", "block.lif1"),
    ],
)
def test_ports_and_monitors_of_the_process_show_the_same(
    name: str, output: str, monitored: str
) -> None:
    """Recording inside the models equals Lava's Monitor and sink under Lava's own model choice."""
    graph, spikes = make(name)
    network, out, v = user_run(graph, spikes, monitored)
    chip = run_lava(graph, spikes).chip_time()
    assert_array_equal(out, chip[output].s)
    assert_array_equal(v.reshape(chip[monitored].v.shape), chip[monitored].v)
    assert out.any() and v.any()
    chosen = network.fixed_point_config().exception_proc_model_map
    for part in network.parts:
        assert issubclass(chosen[part], part.model_class)
        assert "fixed_pt" in part.model_class.tags


def test_two_outputs_have_ports_by_name() -> None:
    graph, _ = make("two_inputs_two_outputs")
    network = build(graph, 6)
    assert {name: port.shape for name, port in network.inputs.items()} == {
        "image": (2, 3, 4),
        "events": (5,),
    }
    assert {name: port.shape for name, port in network.outputs.items()} == {"a": (4,), "b": (2, 3)}
    assert not hasattr(network, "s_in")


def test_runs_leave_nothing_behind() -> None:
    graph, spikes = make("one_neuron")
    from lava.magma.core.process.process import ProcessServer

    before = shared_memory(), len(ProcessServer().processes), list(logging.getLogger().handlers)
    trace = run_lava(graph, spikes)
    assert trace.n_spikes["n"] > 0
    assert not children_left()
    after = len(ProcessServer().processes), list(logging.getLogger().handlers)
    assert not left_behind(before[0])
    assert after == before[1:]


def children_left() -> list[Any]:
    """Processes that have not ended after a while; on a busy machine they may take some time."""
    end = time.monotonic() + ROOM_S
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    return multiprocessing.active_children()


def left_behind(before: set[str]) -> set[str]:
    """New blocks that are still there after a while; other tests make and map blocks meanwhile."""
    end, left = time.monotonic() + ROOM_S, shared_memory() - before
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left &= shared_memory()
    return left


def network_and_spikes() -> tuple[Any, dict[str, Any]]:
    graph, spikes = make("dense_if_without_bias")
    return build(graph, len(spikes)), {"in": np.not_equal(spikes, 0)}


def test_an_exception_inside_lava_is_reported_and_ends_the_run() -> None:
    network, spikes = network_and_spikes()
    before = shared_memory()
    network.populations["lif1"].vth.init = 19.5  # left_shift of a float raises in the process
    with runner.quiet_lava(), pytest.raises(runner.RunFailedError, match="TypeError"):
        runner.stream(network, spikes, ("s",))
    assert not children_left()
    assert not left_behind(before)


def test_a_run_without_progress_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from biril_nm.export.lava.bundle.lava_parts import Recorded

    graph, spikes = make("dense_if_without_bias")
    monkeypatch.setattr(Recorded, "run_spk", lambda _: time.sleep(600))  # in forked processes
    with pytest.raises(LavaRunError, match=r"made no progress for 0\.1 s after step 0"):
        run_lava(graph, spikes, stall_s=0.1)
    assert not children_left()


def test_progress_reaches_the_end() -> None:
    graph, spikes = make("dense_lif_with_bias_batch_16")
    seen: list[tuple[int, int]] = []
    run_lava(graph, spikes, record="s", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][1] == 16 * 6 + 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_record_and_nodes_select() -> None:
    graph, spikes = make("conv_net_batch_16")
    trace = run_lava(graph, spikes, record=("v",), nodes=("lif2",))
    assert list(trace) == ["lif2"] and trace["lif2"].s is None and trace["lif2"].v is not None
    sim = simulate(graph, spikes, record=())
    assert trace.n_spikes == sim.n_spikes
    for name in graph.neurons:
        assert_array_equal(trace.v_last[name], sim.v_last[name])


def test_zero_spikes_stay_silent() -> None:
    graph, spikes = make("dense_if_without_bias")
    trace = run_lava(graph, np.zeros_like(spikes))
    assert trace.n_spikes == {"lif1": 0, "lif2": 0}
    assert not any(node.u.any() or node.v.any() for node in trace.nodes.values())


def test_values_that_a_binary_input_does_not_carry_are_refused() -> None:
    graph, spikes = make("dense_if_without_bias")
    for factor, found in ((-7, "from -7 to 0"), (7, "from 0 to 7")):
        with pytest.raises(RangeError, match=f"values {found}; a binary input allows 0 to 1"):
            run_lava(graph, spikes.astype(np.int64) * factor)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s[:, :, :-1], ConfigError, r"input 'in' has shape \(8, 1, 8\); expected"),
        (lambda s: s.astype(float), ConfigError, "dtype float64; expected integers"),
        (lambda s: {"x": s}, ConfigError, r"given for \['x'\]; the graph's inputs are \['in'\]"),
        (lambda s: s[:0], ConfigError, "has shape"),
    ],
)
def test_wrong_spikes_are_refused(change: Any, error: type[Exception], message: str) -> None:
    graph, spikes = make("dense_if_without_bias")
    with pytest.raises(error, match=message):
        run_lava(graph, change(spikes))


def test_payloads_wider_than_the_input_are_refused() -> None:
    graph, spikes = make("dense_graded_input")
    with pytest.raises(RangeError, match=r"values from 0 to 300; message_bits 8 allows 0 to 255"):
        run_lava(graph, np.where(spikes == spikes.max(), 300, 0))


def test_wide_groups_are_refused_because_lava_wraps_them() -> None:
    graph = chain(
        ("in", Input((128, 2, 2))),
        ("depthwise", Conv(np.full((128, 1, 1, 1), 2), groups=128)),
        ("n", Neurons((128, 2, 2), vth=10)),
        ("out", Output()),
    )
    with pytest.raises(
        RangeError, match=r"(?s)'depthwise'.*groups 128.*up to 127.*Split the groups"
    ):
        build(graph, 4)


def test_unknown_nodes_and_empty_graphs_are_refused() -> None:
    graph, spikes = make("one_neuron")
    with pytest.raises(ConfigError, match="cannot record x; Neurons nodes are n"):
        run_lava(graph, spikes, nodes=("x",))
    with pytest.raises(ConfigError, match="nothing for Lava to run"):
        build(LoihiGraph({"in": Input((2,))}, ()), 4)
    with pytest.raises(ConfigError, match="n_steps is 0"):
        build(graph, 0)


def test_a_start_method_set_before_lava_does_not_break_the_import() -> None:
    code = (
        "import multiprocessing as mp; mp.set_start_method('spawn')\n"
        "import numpy as np\n"
        "from biril_nm.hw_graph import *\n"
        "from biril_nm.export.lava import run_lava\n"
        "g = LoihiGraph({'i': Input((1,)), 'c': Dense([[254]]), 'n': Neurons((1,), vth=100)},\n"
        "               (('i', 'c'), ('c', 'n')))\n"
        "print(run_lava(g, np.ones((3, 1, 1), int)).n_spikes['n'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.stdout.strip(), done.stderr.strip()) == ("3", "")


def test_the_cases_cover_every_node_kind() -> None:
    kinds = {type(node).__name__ for name in CASES for node in make(name)[0].nodes.values()}
    assert kinds == {"Input", "Dense", "Sparse", "Conv", "Neurons", "Output"}
    signs = {c.sign_mode.value for name in CASES for c in make(name)[0].connections.values()}
    assert signs == {"mixed", "excitatory", "inhibitory"}
    assert any(make(name)[0].timing.max_slack for name in CASES)


def test_plastic_connections_run_with_the_weights_they_have() -> None:
    rng = np.random.default_rng(3)
    graph = chain(
        ("in", Input((4,))),
        ("fc", Dense(2 * rng.integers(0, 60, (3, 4)), rule=PAIR)),
        ("n", Neurons((3,), vth=100)),
    )
    spikes = binary(rng, 5, 2, 4)
    assert run_lava(graph, spikes).n_spikes == simulate(graph, spikes).n_spikes


def test_running_on_lava_does_not_import_torch() -> None:
    code = (
        "from biril_nm.export.lava import run_lava\n"
        "from biril_nm.hw_graph import *\n"
        "g = LoihiGraph({'i': Input((1,)), 'c': Dense([[254]]), 'n': Neurons((1,), vth=100)},\n"
        "               (('i', 'c'), ('c', 'n')))\n"
        "print(run_lava(g, [[[1]], [[1]]]).n_spikes)\n"
        "import sys\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.stdout.split("\n")[:2], done.stderr) == (["{'n': 2}", "False"], "")


class _Runtime:
    """As much of a Lava runtime as the watching needs; ``alive`` tells whether its process lives."""

    def __init__(self, alive: bool) -> None:
        from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE

        answer = SimpleNamespace(probe=lambda: True, peek=lambda: MGMT_RESPONSE.DONE)
        self.ended: list[str] = []
        actor = SimpleNamespace(
            exception=None,
            is_alive=lambda: alive,
            kill=lambda: self.ended.append("killed"),
            join=lambda: self.ended.append("joined"),
        )
        memory = SimpleNamespace(shutdown=lambda: self.ended.append("freed"))
        self.service_to_runtime = [answer]
        self._messaging_infrastructure = SimpleNamespace(
            actors=[actor], smm=memory, stop=lambda: None
        )
        self.start = self.wait = lambda *_: None


@pytest.mark.parametrize(
    ("alive", "message"),
    [
        (False, "a Lava process ended before the run was done"),
        (True, r"left out a population.*5, 3"),
    ],
)
def test_a_run_that_lava_did_not_finish_is_ended(alive: bool, message: str) -> None:
    runtime = _Runtime(alive)
    process = SimpleNamespace(
        create_runtime=lambda run_cfg: None, runtime=runtime, stop=lambda: None
    )
    with pytest.raises(runner.RunFailedError, match=message):
        runner.run_watched(process, [], None, 5, np.array([5, 3]), stall_s=5.0)
    assert runtime.ended == ["killed", "joined", "freed"]
