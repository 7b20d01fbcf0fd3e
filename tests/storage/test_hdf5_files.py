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


def test_many_members(path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "MAX_MEMBERS", 2)
    refuse(path, "has more than 2 members")


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
