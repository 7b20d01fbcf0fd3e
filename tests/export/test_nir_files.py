"""Damaged and hostile .nir files: refused by name, within seconds; nothing outside the file is read."""

from __future__ import annotations

import random
import shutil
import struct
import warnings
from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest

from biril_nm.errors import BirilError, ConfigError, FileFormatError
from biril_nm.export import lower
from biril_nm.export.nir_files.exact_writing import exact_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.storage import hdf5 as hdf5_files
from tests.support.nir_graphs import chain, grid, neurons

N_MUTATIONS = 80  # tests.fuzz reads more


@pytest.fixture
def path(tmp_path):
    """A valid file: Linear and LIF, with metadata."""
    lif = neurons("LIF", (4,))
    lif.metadata = {"reset": "zero", "dt": 1e-3}
    write_nir(tmp_path / "net.nir", chain((6,), ("fc", nir.Linear(grid((4, 6)))), ("n", lif)))
    return tmp_path / "net.nir"


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(where, value):
    def change(file):
        if where in file:
            del file[where]
        file[where] = value

    return change


def remove(where):
    def change(file):
        del file[where]

    return change


def hollow(file):
    del file["node/nodes/fc/weight"]
    file.create_dataset("node/nodes/fc/weight", (10**6, 10**6), "f8", chunks=(1000, 1000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            remove("node/nodes/n/tau"),
            r"node 'n' \(LIF\) cannot be read \(TypeError.*'tau'.*Write it again",
        ),
        (put("node/nodes/n/tau", np.ones(3)), r"node 'n' \(LIF\) cannot be read .*same shape"),
        (
            put("node/nodes/n/type", "Softmax"),
            r"node 'n' is of type 'Softmax'; expected Affine",
        ),
        (remove("node/nodes/n/type"), r"node 'n' is of type None; expected"),
        (put("node/nodes/n/type", np.array([1, 2])), r"node 'n' is of type array"),
        (put("node/nodes/n/extra", 3), r"node 'n' \(LIF\) cannot be read .*'extra'"),
        (put("node/nodes/fc/weight", "text"), r"node 'fc' \(Linear\) cannot be read"),
        (remove("node"), r"holds no NIR graph; expected a NIRGraph"),
        (remove("node/edges"), r"is not a readable NIR file"),
        (put("node/type", "LIF"), r"holds a single LIF node; expected a NIRGraph"),
        (put("node/edges", np.array([1, 2])), r"is not a readable NIR file"),
        (
            put("node/nodes/fc/weight", h5py.SoftLink("/node/edges")),
            r"fc/weight' is a link, which is never",
        ),
        (
            hollow,
            r"fc/weight' declares 8000000000000 bytes, of which the file holds only 0. Write it again",
        ),
    ],
)
def test_damaged_members_are_named(path, change, message):
    with pytest.raises(FileFormatError, match=rf"net\.nir.*{message}"):
        read_nir(edit(path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put("node/nodes/fc/weight", np.full((4, 6), np.nan)),
            r"'fc' \(Linear\): weight is not finite",
        ),
        (
            put("node/nodes/fc/weight", np.full((4, 6), b"a")),
            r"'fc' \(Linear\): weight is .*numbers",
        ),
        (
            put("node/nodes/fc/weight", np.ones((4, 6, 1)) * 1j),
            r"fc/weight' holds records or complex numbers; expected numbers",
        ),
        (put("node/nodes/n/metadata/dt", "soon"), r"'n' \(LIF\): metadata 'dt' is 'soon'"),
        (
            put("node/nodes/n/metadata/reset", np.arange(3)),
            r"'n' \(LIF\): metadata 'reset' is array",
        ),
        (put("node/nodes/input/shape", np.array([10**9, 10**9])), r"shape of input 'input' is"),
        (
            put("node/nodes/input/shape", np.full(3, 1e308)),
            r"shape of input 'input' is .*1\.e\+308",
        ),
    ],
)
def test_values_without_meaning_are_refused_when_lowered(path, change, message):
    with pytest.raises(BirilError, match=message):
        lower(read_nir(edit(path, change)))


def test_deep_nesting_in_a_file_is_refused(tmp_path):
    nodes = {"input": nir.Input({"input": np.array([4])}), "n": neurons("IF", (4,)),
             "output": nir.Output({"output": np.array([4])})}  # fmt: skip
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)))
    for _ in range(40):
        graph = nir.NIRGraph({**nodes, "n": graph}, list(pairwise(nodes)), type_check=False)
    write_nir(tmp_path / "deep.nir", graph)
    with pytest.raises(FileFormatError, match="groups nest deeper than 64"):
        read_nir(tmp_path / "deep.nir")


@pytest.mark.parametrize("name", ["a.b", "a+b", "@", " ", "#2", "..", "ü", "type", "x" * 300])
def test_odd_names_survive_the_file(tmp_path, name):
    graph = chain((6,), ("fc", nir.Linear(grid((4, 6)))), (name, neurons("IF", (4,))))
    write_nir(tmp_path / "x.nir", graph)
    assert lower(read_nir(tmp_path / "x.nir"), reset="zero") == lower(graph, reset="zero")


@pytest.mark.parametrize("name", ["", ".", "a/b", "/", "a\0b", 3])
def test_names_that_files_cannot_hold_are_refused_when_written(tmp_path, name):
    graph = chain((6,), ("fc", nir.Linear(grid((4, 6)))), (name, neurons("IF", (4,))))
    with pytest.raises(ConfigError, match=r"the name of node .*Rename it"):
        write_nir(tmp_path / "x.nir", graph)
    outer = nir.NIRGraph({"block": graph}, [], type_check=False)
    with pytest.raises(ConfigError, match=r"the name of node 'block\..*'"):
        write_nir(tmp_path / "x.nir", outer)
    assert not (tmp_path / "x.nir").exists()


def test_open_shapes_are_reported_before_writing(tmp_path):
    conv = nir.Conv2d(None, np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    nodes = {"input": nir.Input({"input": np.array([1, 5, 5])}), "c": conv}
    graph = nir.NIRGraph(nodes, [("input", "c")], type_check=False)
    with pytest.raises(ConfigError, match=r"'c' \(Conv2d\): input_shape is None.*infer_types\(\)"):
        write_nir(tmp_path / "x.nir", graph)


# --- bounds and heaps of text -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("MAX_MEMBERS", 5, "has more than 5 members"),
        ("MAX_DEPTH", 1, "groups nest deeper than 1 at '/node/nodes'"),
    ],
)
def test_bounds_are_kept(path, monkeypatch, bound, value, message):
    monkeypatch.setattr(hdf5_files, bound, value)
    with pytest.raises(FileFormatError, match=message):
        read_nir(path)


def test_the_sum_of_all_arrays_is_bounded(path):
    with (
        pytest.raises(FileFormatError, match="unpacks to more than 100 bytes"),
        hdf5_files.open_checked(path, "NIR", max_bytes=100),
    ):
        pytest.fail("not reached")


def text_reference(path, member):
    """Where the file keeps (length, address of its heap, index) of a text."""
    with h5py.File(path, "r") as file:
        return file[member].id.get_offset()


def test_text_behind_the_end_of_the_file_is_refused(path):
    at = text_reference(path, "node/nodes/n/type")
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, at + 4, len(data) + 64)
    path.write_bytes(bytes(data))
    with pytest.raises(FileFormatError, match="ends before what it should hold at byte"):
        read_nir(path)


def test_text_in_heaps_that_overlap_is_refused(tmp_path):
    """Texts that look like heaps themselves, each up to the end of the file."""
    path = tmp_path / "net.nir"
    trap, n = b"trap".ljust(32, b"~"), 20
    with h5py.File(path, "w") as file:
        file["node/type"] = trap * n
        file["node/many"] = [b"x" * 40] * n
    data = bytearray(path.read_bytes())
    at, first = text_reference(path, "node/many"), data.index(trap)
    for inside, reference in zip(range(first, first + n * 32, 32), range(at, at + n * 16, 16)):
        size = len(data) - inside
        struct.pack_into("<4sB3xQHH4xQ", data, inside, b"GCOL", 1, size, 0, 0, size - 16)
        struct.pack_into("<Q", data, reference + 4, inside)
    path.write_bytes(bytes(data))
    with pytest.raises(FileFormatError, match="has heaps that overlap"):
        read_nir(path)


# --- random damage ------------------------------------------------------------------------------

ODD_VALUES = (
    np.nan, -1, 10**9, 1e300, "text", b"\xff\xfe", True, np.zeros(0), np.arange(3), np.ones((2,) * 5),
    np.array(1 + 2j), np.array([[b"a", b"b"]]), np.uint64(2**63), h5py.Empty("f8"),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
)  # fmt: skip


def damage_bytes(data, r):
    if r.random() < 0.1:
        return data[: r.randrange(len(data))]
    data = bytearray(data)
    for _ in range(r.choice([1, 2, 8])):
        at = r.randrange(len(data))
        data[at] = r.choice([0, 255, data[at] ^ (1 << r.randrange(8)), r.randrange(256)])
    return bytes(data)


def damage_members(file, r):
    names = []
    file.visit(names.append)
    name = r.choice(sorted(names))
    value = r.choice(ODD_VALUES)
    kind = r.random()
    if kind < 0.6 or isinstance(file[name], h5py.Group):
        del file[name]
    if kind < 0.5:
        file[name] = value
    elif kind < 0.9 and isinstance(file.get(name), h5py.Dataset):
        other = file[r.choice([n for n in names if isinstance(file.get(n), h5py.Dataset)])][()]
        del file[name]
        file[name] = other
    else:
        file.require_group(f"node/nodes/n/metadata/{r.choice(['dt', 'x', 'reset'])}")


def test_random_damage_raises_nothing_but_our_errors(path, tmp_path):
    """Bytes and members of a plain and of an exact file; most are refused, some still mean something."""
    exact = tmp_path / "exact.nir"
    write_nir(exact, exact_nir(lower(read_nir(path))))
    r, damaged = random.Random(0), tmp_path / "damaged.nir"
    refused = ran = 0
    for i in range(N_MUTATIONS):
        original = (path, exact)[i % 2]
        if i % 4 < 2:
            damaged.write_bytes(damage_bytes(original.read_bytes(), r))
        else:
            shutil.copy(original, damaged)
            try:
                edit(damaged, lambda file: damage_members(file, r))
            except (KeyError, TypeError, ValueError):  # h5py itself refuses what was drawn
                continue
        try:
            graph = lower(read_nir(damaged))
            simulate(graph, np.zeros((2, 1, *graph.inputs["input"].shape), dtype=int))
            graph.summary()
            ran += 1
        except BirilError:
            refused += 1
    assert refused > N_MUTATIONS / 4
    assert ran > N_MUTATIONS / 20


@pytest.mark.parametrize("stride", [0, 1 << 62])
def test_impossible_sizes_end_in_an_error_alone(tmp_path, stride, recwarn):
    """nir computes the shape behind a convolution with them, which warned of a division by zero."""
    conv = nir.Conv2d((8, 8), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    path = tmp_path / "x.nir"
    write_nir(path, chain((1, 8, 8), ("conv", conv), ("n", neurons("IF", (2, 6, 6)))))
    with h5py.File(path, "r+") as file:
        for key in ("stride", "padding"):
            del file[f"node/nodes/conv/{key}"]
            file[f"node/nodes/conv/{key}"] = [stride, stride]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(BirilError, match="conv"):
            lower(read_nir(path), reset="zero")
    assert not [str(warning.message) for warning in recwarn.list]


def test_times_far_below_a_step_end_in_an_error_alone(recwarn):
    graph = chain((6,), ("fc", nir.Linear(grid((4, 6)))), ("n", neurons("LIF", (4,))))
    graph.nodes["n"].tau = np.full(4, 1e-320)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(BirilError, match="expected dt_s = 0.001 s or more"):
            lower(graph, dt_s=1e-3, reset="zero")
    assert not [str(warning.message) for warning in recwarn.list]
