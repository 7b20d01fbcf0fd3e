"""The engine around the kernels: chunks, threads, probes, memory, inputs, errors, imports."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, RangeError
from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.engine import blocks as engine
from biril_nm.hardware_sim.engine.spare import Spare
from biril_nm.hardware_sim.kernels import jit, loops
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
from biril_nm.learning.rules import PAIR
from tests.support.random_graphs import random_graph, random_spikes

WIRINGS = ("plain", "residual", "self", "loop", "inputs")


def two_layers(message_bits=0, size=12, seed=0):
    r = np.random.default_rng(seed)
    nodes = {
        "in": Input((size,), message_bits),
        "c1": Dense(r.integers(-40, 60, (10, size))),
        "n1": Neurons((10,), vth=90, dv=300, du=1000),
        "c2": Dense(r.integers(-40, 80, (4, 10))),
        "n2": Neurons((4,), vth=60, dv=100),
    }
    return LoihiGraph(nodes, (("in", "c1"), ("c1", "n1"), ("n1", "c2"), ("c2", "n2")))


def assert_same(one, other):
    assert list(one) == list(other)
    assert one.n_spikes == other.n_spikes
    for name in one:
        assert_array_equal(one.v_last[name], other.v_last[name])
        for variable, array in one[name].variables().items():
            assert_array_equal(array, getattr(other[name], variable), f"{name}.{variable}")


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("scratch", [1, 3000])
def test_chunked_equals_unchunked(wiring, scratch, monkeypatch):
    n_spikes = 0
    for seed in range(4):
        graph = random_graph([seed, 9], wiring)
        spikes = random_spikes(graph, 13, 5, seed)
        whole = simulate(graph, spikes, record="s,u,v", n_threads=1)
        chip = whole.chip_time()
        monkeypatch.setattr(engine, "SCRATCH_BYTES", scratch)
        chunked = simulate(graph, spikes, record="s,u,v", n_threads=1)
        assert_same(whole, chunked)
        for name, part in chunked.chip_time().items():
            for variable, array in part.variables().items():
                assert_array_equal(array, getattr(chip[name], variable))
        monkeypatch.undo()
        n_spikes += sum(whole.n_spikes.values())
    assert n_spikes > 0


@pytest.mark.parametrize("wiring", WIRINGS)
def test_two_threads_equal_one(wiring):
    graph = random_graph([2, 13], wiring)
    spikes = random_spikes(graph, 9, 33, 5)
    one = simulate(graph, spikes, record="s,u,v", n_threads=1)
    assert_same(one, simulate(graph, spikes, record="s,u,v", n_threads=2))
    assert_same(one, simulate(graph, spikes, record="s,u,v"))
    assert sum(one.n_spikes.values()) > 0


@pytest.mark.parametrize("wiring", WIRINGS)
def test_runs_that_take_over_memory_equal_the_first_run_of_a_graph(wiring):
    """Whatever the run before left in it: other spikes, chip time, an error in the middle."""
    for seed in range(3):
        graph = random_graph([seed, 11], wiring)
        one, other = (random_spikes(graph, 9, 2, seed) for seed in (seed, seed + 50))
        fresh = simulate(LoihiGraph(graph.nodes, graph.edges), one, record="s,u,v", n_threads=1)
        simulate(graph, other, record="s,u,v", n_threads=1).chip_time()
        again = simulate(graph, one, record="s,u,v", n_threads=1)
        name, values = next(iter(one.items())) if isinstance(one, dict) else (None, one)
        wrong = np.array(values, dtype=np.int64)
        wrong[-1, -1] = 1 << 20
        with pytest.raises(RangeError, match="cannot carry"):
            simulate(graph, {**one, name: wrong} if name else wrong, n_threads=1)
        after = simulate(graph, one, record="s,u,v", n_threads=1)
        assert_same(fresh, again)
        assert_same(fresh, after)


def test_an_object_that_is_taken_is_nobody_elses():
    spare: Spare[list[int]] = Spare()
    assert spare.take("shape") is None
    one, other = [1], [2]
    spare.give("shape", one)
    assert spare.take("another") is None
    assert spare.take("shape") is one
    assert spare.take("shape") is None
    spare.give("shape", one)
    spare.give("another", other)
    assert spare.take("shape") is None and spare.take("another") is other


def test_only_little_memory_stays_for_the_next_run(monkeypatch):
    spikes = np.random.default_rng(1).integers(0, 2, (20, 8, 12))
    given = []
    monkeypatch.setattr(Spare, "give", lambda spare, key, used: given.append(used))
    simulate(two_layers(), spikes, n_threads=1)
    (memory,) = given
    state = memory.state
    parts = (state.spikes, state.u, state.v, state.more, memory.arriving, memory.inputs)
    listed = sum(array.nbytes for part in parts for array in part.values())
    assert 0 < sum(a.nbytes for a in state.v.values()) < listed < memory.nbytes
    monkeypatch.setattr(engine, "KEPT_BYTES", memory.nbytes - 1)
    simulate(two_layers(), spikes, n_threads=1)
    assert len(given) == 1
    monkeypatch.setattr(engine, "KEPT_BYTES", memory.nbytes)
    simulate(two_layers(), spikes, n_threads=1)
    assert len(given) == 2


def test_concurrent_calls_from_threads_of_the_user():
    graph, results = two_layers(), {}
    spikes = np.random.default_rng(1).integers(0, 2, (20, 8, 12))

    def call(key):
        results[key] = simulate(graph, spikes, record="s,u,v", n_threads=2)

    threads = [threading.Thread(target=call, args=(key,)) for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in range(1, 4):
        assert_same(results[0], results[key])


@pytest.mark.parametrize("message_bits", [0, 8])
@pytest.mark.parametrize("shape", ["dense", "conv"])
def test_repeated_image_equals_its_copy(message_bits, shape):
    graph = two_layers(message_bits)
    if shape == "conv":
        graph = random_graph([6, 6], "residual").with_node("in", message_bits=message_bits)
    size = graph.inputs["in"].shape
    image = np.random.default_rng(2).integers(0, 1 << (message_bits or 1), (7, *size))
    view = np.broadcast_to(image, (6, *image.shape))
    repeated = simulate(graph, view, record="s,u,v")
    assert_same(repeated, simulate(graph, view.copy(), record="s,u,v"))
    assert sum(repeated.n_spikes.values()) > 0


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int32, np.int64, np.uint16])
def test_any_integer_dtype_and_layout(dtype):
    graph = two_layers()
    spikes = np.random.default_rng(3).integers(0, 2, (9, 5, 12))
    expected = simulate(graph, spikes, record="s,u,v")
    turned = np.ascontiguousarray(spikes.astype(dtype).transpose(2, 1, 0)).transpose(2, 1, 0)
    assert_same(expected, simulate(graph, turned, record="s,u,v"))


def test_recording_is_what_was_asked_for():
    graph, spikes = two_layers(), np.ones((6, 3, 12), int)
    everything = simulate(graph, spikes, record=("s", "u", "v"))
    assert everything["n1"].s.shape == (6, 3, 10)
    assert everything["n1"].s.dtype == np.uint8
    assert everything["n1"].u.dtype == everything["n1"].v.dtype == np.int32
    some = simulate(graph, spikes, record="v", nodes=["n2"])
    assert list(some) == ["n2"]
    assert some["n2"].s is None
    assert some["n2"].u is None
    assert_array_equal(some["n2"].v, everything["n2"].v)
    nothing = simulate(graph, spikes, record=())
    assert nothing["n1"].variables() == {}
    for trace in (some, nothing):
        assert trace.n_spikes == everything.n_spikes
        assert_array_equal(trace.v_last["n1"], everything["n1"].v[-1])
    assert everything.meta["engine"] == "biril_nm.hardware_sim"
    assert (everything.meta["n_steps"], everything.meta["batch"]) == (6, 3)
    with pytest.raises(ConfigError, match="cannot record lif9; Neurons nodes are n1, n2"):
        simulate(graph, spikes, nodes=["lif9"])
    with pytest.raises(ConfigError, match="cannot record"):
        simulate(graph, spikes, record="w")


def test_memory_does_not_grow_with_the_stream():
    graph = two_layers()
    image = np.random.default_rng(4).integers(0, 2, (100, 1, 12), dtype=np.uint8)
    simulate(graph, image, record=())
    stream = np.broadcast_to(image[None], (2000, *image.shape)).reshape(-1, 1, 12)
    tracemalloc.start()
    trace = simulate(graph, stream, record=(), n_threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert trace.n_spikes["n2"] > 1000
    assert peak < 2 * engine.SCRATCH_BYTES + (1 << 20)


def test_chip_time_has_the_length_of_the_stream():
    graph = two_layers()
    trace = simulate(graph, np.ones((5, 3, 12), int), record="s")
    assert trace.chip_time()["n2"].s.shape == (2 * 5 + 5 + 2, 4)
    looped = random_graph([1, 1], "self")
    spikes = random_spikes(looped, 4, 3, 1)
    period = looped.sample_period(4)
    assert period > 4
    rows = simulate(looped, spikes).chip_time()["n2"].s
    assert len(rows) == 2 * period + 4 + max(looped.latency.values())


def test_what_does_not_fit_is_refused():
    graph = two_layers()
    with pytest.raises(
        ConfigError, match=r"input 'in' has shape \(5, 12\); expected \(n_steps, batch, 12\)"
    ):
        simulate(graph, np.ones((5, 12), int))
    with pytest.raises(ConfigError, match=r"input 'in' has shape \(5, 1, 13\)"):
        simulate(graph, np.ones((5, 1, 13), int))
    with pytest.raises(ConfigError, match="at least one step and one sample"):
        simulate(graph, np.ones((5, 0, 12), int))
    with pytest.raises(ConfigError, match=r"input 'in' has dtype float64.*astype"):
        simulate(graph, np.ones((5, 1, 12)))
    with pytest.raises(ConfigError, match=r"given for \['x'\]; the graph's inputs are \['in'\]"):
        simulate(graph, {"x": np.ones((5, 1, 12), int)})
    with pytest.raises(ConfigError, match="n_threads is 0"):
        simulate(graph, np.ones((5, 1, 12), int), n_threads=0)
    with pytest.raises(ConfigError, match="message_bits is 40; expected 0 to 31"):
        simulate(two_layers(40), np.ones((5, 1, 12), int))


@pytest.mark.parametrize("value", [-1, 16])
def test_payloads_outside_the_message_are_refused(value):
    graph = two_layers(4)
    spikes = np.zeros((3, 2, 12), int)
    spikes[2, 1, 5] = value
    with pytest.raises(
        RangeError, match=r"input 'in' has values from .* message_bits 4 allows 0 to 15"
    ):
        simulate(graph, spikes)
    spikes[2, 1, 5] = 15
    assert simulate(graph, spikes).n_spikes["n1"] >= 0


def test_several_inputs_need_names_and_equal_lengths():
    graph = random_graph([1, 2], "inputs")
    spikes = random_spikes(graph, 4, 2, 0)
    with pytest.raises(ConfigError, match=r"2 inputs \(in, in2\). Pass a dict"):
        simulate(graph, spikes["in"])
    with pytest.raises(ConfigError, match="inputs differ in"):
        simulate(graph, {**spikes, "in2": spikes["in2"][:3]})


def test_frozen_weights_run_and_learning_needs_a_rule():
    plain = two_layers()
    plastic = plain.with_node("c1", rule=PAIR)
    spikes = np.random.default_rng(5).integers(0, 2, (9, 5, 12))
    assert_same(simulate(plain, spikes), simulate(plastic, spikes))
    with pytest.raises(ConfigError, match=r"no connection .* has a learning rule. .*--plastic"):
        simulate(plain, spikes, learn=True)
    with pytest.raises(ConfigError, match=r"cannot record w of a run without learning"):
        simulate(plastic, spikes, record="s,w")


def test_kernels_compile_without_a_folder_for_their_code(monkeypatch):
    real = jit.numba.njit

    def no_folder(function, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    monkeypatch.setattr(jit.numba, "njit", no_folder)
    assert jit.kernel(lambda x: x + 1)(1) == 2


def test_import_needs_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from biril_nm.hardware_sim import simulate\n"
        "from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons\n"
        "g = LoihiGraph({'i': Input((1,)), 'c': Dense([[2]]), 'n': Neurons((1,), vth=1)},"
        " (('i', 'c'), ('c', 'n')))\n"
        "print(simulate(g, np.ones((3, 1, 1), int)).n_spikes['n'])\n"
        "bad = [m for m in ('torch', 'nir', 'snntorch', 'lava', 'biril_nm.export') if m in sys.modules]\n"
        "sys.exit(f'imported: {bad}' if bad else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"
    assert done.stderr == ""


def test_code_on_disk_depends_on_every_source_of_the_kernels(tmp_path, monkeypatch):
    assert loops.run._cache._cache_file._source_stamp == jit.source_digest()
    copies = {path.name: path.read_text() for path in Path(jit.__file__).parent.glob("*.py")}
    digests = set()
    for changed in ("nothing", "jit.py", "loops.py", "neuron.py", "synapse.py"):
        for name, text in copies.items():
            (tmp_path / name).write_text(text + ("# changed\n" if name == changed else ""))
        monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))
        jit.source_digest.cache_clear()
        digests.add(jit.source_digest())
    jit.source_digest.cache_clear()
    assert len(digests) == 5


def test_without_a_stamp_nothing_is_cached(monkeypatch):
    """As with a numba that keeps its cache elsewhere: stale code would pass for new."""
    real, cached = jit.numba.njit, []

    def add_two(x):
        return x + 2

    def njit(function, **options):
        if function is add_two:  # numba compiles functions of its own in between
            cached.append(bool(options.get("cache")))
        return function if options.get("cache") else real(function, **options)

    monkeypatch.setattr(jit.numba, "njit", njit)
    assert jit.kernel(add_two)(1) == 3
    assert cached == [True, False]


def test_code_on_disk_for_a_record_that_is_gone_is_compiled_again(tmp_path, monkeypatch):
    index = loops.run._cache._cache_file
    path = tmp_path / "run.nbi"
    gone = b"cbiril_nm.hardware_sim.kernels.records\nNoSuchRecord\n."
    path.write_bytes(pickle.dumps(index._version) + gone)
    with pytest.raises(AttributeError, match="NoSuchRecord"):
        pickle.loads(gone)
    monkeypatch.setattr(index, "_index_path", str(path))
    assert index.load("any key") is None
