"""HDF5 files from elsewhere: each way out of the file, each bound and each damage has its message."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.storage import hdf5 as hdf5_files
from biril_nm.storage.hdf5 import open_checked


def refuse(path, message):
    with pytest.raises(FileFormatError, match=rf"x\.h5.*{message}"), open_checked(path, "test"):
        pass


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/numbers"] = np.arange(4)
        file["group/text"] = "of variable length"
    with open_checked(tmp_path / "x.h5", "test") as file:
        assert file["group/numbers"][2] == 2
    return tmp_path / "x.h5"


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", shape=(4,))
    file.create_virtual_dataset("bad", layout)


EDITS = {
    "soft link": (
        lambda f: f.__setitem__("bad", h5py.SoftLink("/group")),
        "'/bad' is a link, which is never followed",
    ),
    "external link": (
        lambda f: f.__setitem__("group/bad", h5py.ExternalLink("/etc/hostname", "/")),
        "'/group/bad' is a link",
    ),
    "external storage": (
        lambda f: f.create_dataset("bad", (4,), "u1", external="/etc/hostname"),
        "'/bad' takes its data from another file",
    ),
    "virtual": (_virtual, "'/bad' takes its data from another file"),
    "deep": (lambda f: f.create_group("/".join(["g"] * 70)), "groups nest deeper than 64"),
    "cycle": (lambda f: f.__setitem__("group/again", f["group"]), "groups nest deeper than 64"),
    "huge": (
        lambda f: f.create_dataset("bad", (1 << 20, 1 << 20), "f8", chunks=(64, 64)),
        "declares 8796093022208 bytes",
    ),
    "lists": (
        lambda f: f.create_dataset("bad", (1,), h5py.vlen_dtype("i4")).__setitem__(0, [1, 2]),
        r"'/bad' \(object\) is neither numbers nor plain text",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_hostile_members(name, path):
    edit, message = EDITS[name]
    with h5py.File(path, "a") as file:
        edit(file)
    refuse(path, message)


def test_many_members(path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "MAX_MEMBERS", 2)
    refuse(path, "has more than 2 members")


def test_addresses_of_unusual_width(tmp_path):
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(4, 4)
    file = h5py.File(h5py.h5f.create(bytes(tmp_path / "x.h5"), h5py.h5f.ACC_TRUNC, plist))
    file["text"] = "of variable length"
    file.close()
    refuse(tmp_path / "x.h5", "addresses of unusual width; write it again with h5py")


def test_damaged_heaps(path):
    """The heap's size is claimed up to the end of the file, then overlapping another one."""
    good = path.read_bytes()
    heap = good.index(b"GCOL")
    size = struct.unpack_from("<Q", good, heap + 8)[0]
    data = bytearray(good)
    struct.pack_into("<Q", data, heap + 8, len(good))
    path.write_bytes(data)
    refuse(path, "has no heap of text")
    data = bytearray(good)
    struct.pack_into("<Q", data, heap + 24, size)  # the first object swallows the heap
    path.write_bytes(data)
    refuse(path, "has a damaged heap of text")


def test_no_hdf5_at_all(tmp_path):
    refuse(tmp_path / "x.h5", "does not exist")
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    refuse(tmp_path / "x.h5", "is not a readable test file")
