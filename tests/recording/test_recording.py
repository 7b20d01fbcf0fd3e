"""Recording to disk: the same integers as in memory, complete folders only, bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError, StorageError
from biril_nm.hardware_sim import simulate
from biril_nm.recording import Recording
from biril_nm.recording import folder as trace_folder
from biril_nm.storage import read_npz, write_npz
from tests.support import killable
from tests.support.graphs import one_layer
from tests.support.random_graphs import random_graph, random_spikes


@pytest.mark.parametrize("seed", range(8))
def test_a_folder_holds_what_memory_would(seed, tmp_path):
    graph = random_graph(seed)
    spikes = random_spikes(graph, 7, 3, seed)
    wanted = simulate(graph, spikes, record=("s", "u", "v"))
    found = simulate(graph, spikes, record=("s", "u", "v"), record_to=tmp_path / "trace")
    loaded = Recording.load(tmp_path / "trace")
    assert list(found) == list(loaded) == list(wanted)
    for name, node in wanted.items():
        for variable, array in node.variables().items():
            for trace in (found, loaded):
                assert_array_equal(getattr(trace[name], variable), array, err_msg=name)
    assert loaded.n_spikes == found.n_spikes == wanted.n_spikes
    assert loaded.meta["n_steps"] == 7
    for name, v in wanted.v_last.items():
        assert_array_equal(found.v_last[name], v)
    for name, node in wanted.chip_time().items():
        assert_array_equal(found.chip_time()[name].s, node.s)


STREAM = """
import resource, sys
import numpy as np
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph

graph = LoihiGraph.load("net.loihi.npz")
spikes = np.load("stream.npy", mmap_mode="r")
simulate(graph, spikes[:100], record=("v",), n_threads=1)  # compiled code is loaded
lines = open("/proc/self/status").read().splitlines()
used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
limit = used + (64 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
trace = simulate(
    graph, spikes, record=("v",), n_threads=1, record_to="trace" if "disk" in sys.argv else None
)
print(trace["lif"].v.nbytes, trace.n_spikes["lif"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.slow
def test_a_million_steps_take_no_more_memory_than_a_block(tmp_path):
    graph, n_steps = one_layer(), 1_000_000
    graph.save(tmp_path / "net.loihi.npz")
    spikes = np.lib.format.open_memmap(
        tmp_path / "stream.npy", mode="w+", dtype=np.uint8, shape=(n_steps, 1, 40)
    )
    spikes[:] = np.random.default_rng(1).random((n_steps, 1, 40), dtype=np.float32) < 0.1
    run = [sys.executable, "-c", STREAM]
    done = subprocess.run([*run, "disk"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    n_bytes, n_spikes = map(int, done.stdout.split())
    assert n_bytes == 4 * 64 * n_steps  # four times what the limit leaves
    assert n_spikes > n_steps
    tail = np.asarray(Recording.load(tmp_path / "trace")["lif"].v[-3:])
    whole = simulate(graph, np.asarray(spikes), record=(), n_threads=1)
    assert_array_equal(tail[-1], whole.v_last["lif"])
    in_memory = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert in_memory.returncode != 0 and "MemoryError" in in_memory.stderr


def test_a_failed_run_leaves_nothing_and_force_replaces_traces_only(tmp_path, monkeypatch):
    graph, spikes = one_layer(), np.ones((3, 1, 40), np.uint8)
    folder = tmp_path / "trace"
    simulate(graph, spikes, record_to=folder)
    with pytest.raises(OutputExistsError, match="Pass --force"):
        simulate(graph, spikes, record_to=folder)
    assert simulate(graph, spikes[:2], record_to=folder, force=True)["lif"].s.shape[0] == 2
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.jpg").touch()
    with pytest.raises(OutputExistsError, match="is not a folder with trace.json"):
        simulate(graph, spikes, record_to=other, force=True)
    monkeypatch.setattr(
        trace_folder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})
    )
    with pytest.raises(ConfigError, match="recording 's' of 'lif' takes 0.0 GiB and the disk"):
        simulate(graph, spikes, record_to=tmp_path / "full")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "trace"]


@pytest.mark.parametrize("allocates", [True, False])
def test_a_full_disk_refuses_the_recording_before_the_run(allocates, small_disk, monkeypatch):
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate")
    spikes = np.ones((6000, 4, 40), np.uint8)
    with pytest.raises(StorageError, match=r"'v' of 'lif' takes 0.0 GiB and the disk of .* left"):
        simulate(one_layer(), spikes, record=("s", "v"), record_to=small_disk / "trace")
    assert not list(small_disk.iterdir())
    simulate(one_layer(), spikes[:50], record=("s", "v"), record_to=small_disk / "trace")


def test_a_disk_that_fills_up_while_others_write_does_not_kill_the_run(small_disk):
    """The free space that was seen may be gone at the first write; then a sparse file ends in SIGBUS."""
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from biril_nm.hw_graph import LoihiGraph\n"
        "from biril_nm.hardware_sim import simulate, simulator\n"
        "graph, disk = LoihiGraph.load(sys.argv[1]), Path(sys.argv[2])\n"
        "run = simulator.run\n"
        "def late(*args):\n"
        "    try: (disk / 'other').write_bytes(bytes(8 << 20))\n"
        "    except OSError: run(*args)\n"
        "simulator.run = late\n"
        "simulate(graph, np.ones((2000, 4, 40), np.uint8), record=('v',), record_to=disk / 'trace')\n"
    )
    one_layer().save(small_disk / "net.loihi.npz")
    run = [sys.executable, "-c", code, small_disk / "net.loihi.npz", small_disk]
    done = subprocess.run(
        run, capture_output=True, text=True, check=False, env=killable.environment()
    )
    assert done.returncode == 1, done.stderr  # trace.json has no room
    assert "StorageError: " in done.stderr and "Exception ignored" not in done.stderr
    assert sorted(p.name for p in small_disk.iterdir()) == ["net.loihi.npz", "other"]


def test_what_memory_cannot_hold_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda _: 30)  # pages, and bytes of a page
    with pytest.raises(ConfigError, match=r"record_to=FOLDER \(--record-to\)"):
        simulate(one_layer(), np.ones((30, 1, 40), np.uint8))


def test_learning_does_not_record_to_disk(tmp_path):
    from biril_nm.learning.rules import RULES

    rule = next(rule for rule in RULES.values() if not rule.three_factor)
    graph = one_layer().with_node("fc", rule=rule)
    with pytest.raises(ConfigError, match="Leave record_to out"):
        simulate(graph, np.ones((3, 1, 40), np.uint8), learn=True, record_to=tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format="other"), "expected 'biril-nm trace folder 1'"),
        (lambda h: h.update(batch=2), "expected uint8 of shape"),
        (lambda h: h["nodes"]["lif"]["arrays"].update(s="../0.lif.s.npy"), "outside of the folder"),
        (lambda h: h["nodes"]["lif"]["arrays"].update(x="0.lif.s.npy"), "'x'"),
        (lambda h: h["nodes"].update(lif=3), "not the folder of a recording"),
        (lambda h: h.pop("n_spikes"), "n_spikes"),
    ],
)
def test_damaged_folders_are_refused(change, message, tmp_path):
    simulate(one_layer(), np.ones((3, 1, 40), np.uint8), record_to=tmp_path / "trace")
    path = tmp_path / "trace" / trace_folder.HEADER
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))
    with pytest.raises(FileFormatError, match=message):
        Recording.load(tmp_path / "trace")


def test_a_shortened_array_is_refused(tmp_path):
    simulate(one_layer(), np.ones((3, 1, 40), np.uint8), record_to=tmp_path / "trace")
    (array,) = (tmp_path / "trace").glob("*.npy")
    array.write_bytes(array.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=r"npy' claims 192 bytes"):
        Recording.load(tmp_path / "trace")


@pytest.mark.parametrize("values", [np.array(["", "x"]), np.array([b""]), np.array([1j])])
def test_a_file_whose_variable_is_not_numbers_is_refused(tmp_path, values):
    path = tmp_path / "x.npz"
    np.savez(path, meta=np.array('{"n_spikes": {}}'), **{"n.s": values})
    with pytest.raises(FileFormatError, match=r"array 'n\.s' has type .*; expected numbers"):
        Recording.load(path)
    np.savez(path, meta=np.array('{"n_spikes": {}}'), **{"n.s": np.zeros((2, 1, 3), np.uint8)})
    assert Recording.load(path)["n"].s.shape == (2, 1, 3)


@pytest.mark.parametrize("name", ["trace.npz", "learning_trace.npz"])
def test_a_file_whose_variables_differ_in_steps_or_shape_is_refused(name, tmp_path):
    source = Path(__file__).parents[1] / "golden" / "v0_1_0" / name
    arrays = read_npz(source)
    Recording.load(source)
    for key in arrays.keys() - {"meta"}:
        array = arrays[key]
        for wrong in (array[:-1], array[0], array[:0], np.zeros(3), np.zeros(())):
            write_npz(tmp_path / "x.npz", {**arrays, key: wrong})
            with pytest.raises(FileFormatError, match=r"array '.*' has shape .*(expected|another)"):
                Recording.load(tmp_path / "x.npz")
