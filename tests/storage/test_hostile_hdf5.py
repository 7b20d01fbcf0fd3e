"""Damage to HDF5 files, tried on every reader of them: refused by name, nothing outside is read."""

from __future__ import annotations

import h5py
import nir
import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.export import read_netx
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.storage.hdf5 import open_checked
from tests.support.netx_runs import dense, write_file
from tests.support.nir_graphs import chain, grid, neurons


def _write_nir(path):
    write_nir(path, chain((6,), ("fc", nir.Linear(grid((4, 6)))), ("n", neurons("LIF", (4,)))))


def _write_any(path):
    with h5py.File(path, "w") as file:
        file["group/numbers"], file["group/text"] = np.arange(4), "of variable length"


def _open(path, sequences=False):
    with open_checked(path, "test", sequences=sequences):
        pass


READERS = {
    "netx": (lambda path: write_file(path, [dense()]), read_netx),
    "nir": (_write_nir, read_nir),
    "any": (_write_any, _open),
}


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", shape=(4,))
    file.create_virtual_dataset("bad", layout)


def _lists(file):
    file.create_dataset("bad", (1,), h5py.vlen_dtype("i4"))[0] = [1, 2]


MEMBERS = {
    "soft link": (
        lambda f: f.__setitem__("bad", h5py.SoftLink("/")),
        "'/bad' is a link, which is never followed",
    ),
    "external link": (
        lambda f: f.__setitem__("bad", h5py.ExternalLink("/etc/hostname", "/")),
        "'/bad' is a link, which is never followed",
    ),
    "external storage": (
        lambda f: f.create_dataset("bad", (4,), "u1", external="/etc/hostname"),
        "'/bad' takes its data from another file",
    ),
    "virtual": (_virtual, "'/bad' takes its data from another file"),
    "deep": (lambda f: f.create_group("/".join(["g"] * 70)), "groups nest deeper than 64"),
    "cycle": (lambda f: f.create_group("bad").__setitem__("again", f["/"]), "groups nest deeper"),
    "huge": (
        lambda f: f.create_dataset("bad", (1 << 20, 1 << 20), "f8", chunks=(64, 64)),
        "'/bad' declares 8796093022208 bytes",
    ),
    "lists": (_lists, r"'/bad' \(object\) is neither numbers nor plain text"),
}
SIGNATURE = b"\x89HDF\r\n\x1a\n"
BYTES = {
    "empty": (lambda data: b"", "is not a readable"),
    "text": (lambda data: b"hello", "is not a readable"),
    "truncated": (lambda data: data[:900], "is not a readable"),
    "signature only": (lambda data: SIGNATURE + b"x" * 4000, "has a superblock of version 120"),
    "signature cut off": (lambda data: SIGNATURE, "ends before what it should hold"),
}


@pytest.fixture(params=READERS)
def reader(request, tmp_path):
    """A valid file, and the function that reads files of its kind."""
    write, read = READERS[request.param]
    write(tmp_path / "x.h5")
    read(tmp_path / "x.h5")
    return tmp_path / "x.h5", read


@pytest.mark.parametrize("damage", MEMBERS)
def test_hostile_members(damage, reader):
    edit, message = MEMBERS[damage]
    path, read = reader
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises(FileFormatError, match=rf"x\.h5.*{message}"):
        read(path)


@pytest.mark.parametrize("damage", BYTES)
def test_damaged_bytes(damage, reader):
    path, read = reader
    edit, message = BYTES[damage]
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(FileFormatError, match=rf"x\.h5' {message}"):
        read(path)


def test_a_missing_file(reader):
    path, read = reader
    with pytest.raises(FileFormatError, match=r"none\.h5' does not exist"):
        read(path.with_name("none.h5"))


def test_addresses_of_unusual_width(reader):
    path, read = reader
    sizes = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    sizes.set_sizes(4, 4)
    file = h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, sizes))
    file["text"] = "of variable length"
    file.close()
    with pytest.raises(
        FileFormatError, match="unusual width; expected 8 bytes. Write it again with h5py"
    ):
        read(path)


def _sequences(path, **options):
    with h5py.File(path, "w") as file:
        made = file.create_dataset("a", (3,), h5py.vlen_dtype("u2"), **options)
        for i in range(3):
            made[i] = np.arange(2 + i)
        return made.id.get_offset()


@pytest.mark.parametrize("chunks", [None, (2,)])
def test_sequences_of_numbers_are_read_where_they_are_asked_for(chunks, tmp_path):
    _sequences(tmp_path / "x.h5", chunks=chunks)
    with open_checked(tmp_path / "x.h5", "test", sequences=True) as file:
        np.testing.assert_array_equal(file["a"][2], [0, 1, 2, 3])
    with pytest.raises(FileFormatError, match="'/a' .object. is neither numbers nor plain text"):
        _open(tmp_path / "x.h5")
    _sequences(tmp_path / "y.h5", chunks=(2,), compression="gzip")
    with pytest.raises(FileFormatError, match="or packed. Write it again with h5repack -f NONE"):
        _open(tmp_path / "y.h5", sequences=True)


@pytest.mark.parametrize("length", [1, 3, 1 << 30])
def test_a_length_that_is_not_that_of_the_heap_is_refused(length, tmp_path):
    """HDF5 copies all of the object in the heap into the room that the reference states."""
    path = tmp_path / "x.h5"
    offset = _sequences(path)
    data = bytearray(path.read_bytes())
    assert int.from_bytes(data[offset : offset + 4], "little") == 2
    data[offset : offset + 4] = length.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="text of other lengths than the heap at byte"):
        _open(path, sequences=True)
