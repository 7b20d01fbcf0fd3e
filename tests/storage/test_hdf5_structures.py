"""Crafted structures on which the HDF5 library overflows its stack or goes round for ever."""

from __future__ import annotations

import struct
import zlib

import h5py
import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.storage.hdf5 import open_checked

GROUP, CHUNK = 0, 1  # kinds of trees
LEVEL, ENTRIES, RIGHT, BODY = 5, 6, 16, 24  # offsets in a node of a tree
CHILD = {
    GROUP: BODY + 8,
    CHUNK: BODY + 8 + 8 * 3,
}  # of the first child; 3: a matrix and its elements
OLD, NEW = ("earliest", ("earliest", "v108")), (("v108", "v108"), ("v110", "v110"), "latest")


def write(path, **options):
    """A file with everything that is walked, and members that were removed again."""
    with h5py.File(path, "w", **options) as file:
        group = file.create_group("group")
        for i in range(300):
            group[f"n{i}"] = np.int64(i)
        for i in range(100):
            del group[f"n{3 * i}"]
        chunks = np.arange(90 * 90).reshape(90, 90)
        file.create_dataset("chunks", data=chunks, chunks=(3, 3), compression="gzip")
        file.create_dataset("grown", (0,), "f4", chunks=(4,), maxshape=(None,)).resize((100,))
        for i in range(60):
            file["chunks"].attrs[f"a{i}"] = "x" * 200


def read(path):
    with open_checked(path, "test") as file:
        return len(file["group"]), int(file["chunks"][89, 89])


@pytest.mark.parametrize("libver", OLD)
@pytest.mark.parametrize("userblock", [0, 1024])
def test_whole_files_are_read(tmp_path, libver, userblock):
    write(tmp_path / "x.h5", libver=libver, userblock_size=userblock)
    assert read(tmp_path / "x.h5") == (200, 89 * 90 + 89)


@pytest.mark.parametrize(
    "options", [{"libver": libver} for libver in NEW] + [{"track_order": True}]
)
@pytest.mark.parametrize("userblock", [0, 1024])
def test_small_files_of_later_versions_are_read(tmp_path, options, userblock):
    """What they hold in object headers alone, and datasets of one chunk."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", userblock_size=userblock, **options) as file:
        file["group/a"] = np.arange(3)
        file["group/b"], file["group/b"].attrs["unit"] = "text", "s"
        file.create_dataset("chunks", data=np.eye(90), chunks=(90, 90), compression="gzip")
    assert read(path) == (2, 1)


def many_members(file):
    file["x/y"] = 1
    for i in range(20):
        file["x"][f"n{i}"] = np.int64(i)


def many_attributes(file):
    file["x"] = 1
    for i in range(20):
        file["x"].attrs[f"a{i}"] = i


def chunks(*most):
    return lambda file: file.create_dataset("x", data=np.eye(4), chunks=(2, 2), maxshape=most)


HEAP, LIST = "members or attributes in a fractal heap; expected a table", "a list of its chunks"
UNREAD = {
    "members": (many_members, HEAP),
    "attributes": (many_attributes, HEAP),
    "array": (chunks(4, 4), LIST),
    "growing array": (chunks(None, 4), LIST),
    "tree": (chunks(None, None), LIST),
}


@pytest.mark.parametrize("case", UNREAD)
def test_structures_that_are_not_walked_are_refused(tmp_path, case):
    fill, message = UNREAD[case]
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        fill(file)
    with pytest.raises(FileFormatError, match=rf"'/x' keeps .*{message}.* without libver"):
        read(tmp_path / "x.h5")


def test_a_root_with_many_members_is_refused_before_the_library_opens_it(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w", track_order=True) as file:
        for i in range(20):
            file[f"n{i}"] = i
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(FileFormatError, match="'/' keeps its members or attributes in a fractal"):
        read(tmp_path / "x.h5")


def test_an_extension_of_the_superblock_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest", fs_strategy="page"):
        pass
    with pytest.raises(FileFormatError, match="extension of its superblock; expected none. Write"):
        read(tmp_path / "x.h5")


def test_types_of_other_objects_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["type"] = np.dtype("f4")
        file.create_dataset("x", (3,), file["type"])
    with pytest.raises(FileFormatError, match="'/x' shares its type or size with others; expected"):
        read(tmp_path / "x.h5")


def of_type(path, kind):
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((1,)))


def nested(depth):
    """8,000 of them keep the library busy for minutes."""
    kind = h5py.h5t.NATIVE_INT8
    for _ in range(depth):
        kind = h5py.h5t.vlen_create(kind)
    return kind


UNREAD_TYPES = {
    "sequences of sequences": nested(2),
    "records": h5py.h5t.py_create(np.dtype([("a", "i4"), ("b", "f8")])),
    "arrays": h5py.h5t.array_create(h5py.h5t.NATIVE_INT8, (3,)),
    "references": h5py.h5t.STD_REF_OBJ,
    "opaque": h5py.h5t.create(h5py.h5t.OPAQUE, 8),
}


@pytest.mark.parametrize("case", UNREAD_TYPES)
def test_other_types_than_numbers_and_text_are_refused(tmp_path, case):
    of_type(tmp_path / "x.h5", UNREAD_TYPES[case])
    message = "'/x' holds [a-z5 ]+; expected numbers, text or sequences of numbers. Write"
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path / "x.h5")


KINDS = ("?", "u1", "<i2", ">i4", "u8", "f2", "<f4", ">f8", "g", "S3")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_numbers_text_and_sequences_are_read(tmp_path, libver):
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        for group in (KINDS[:5], KINDS[5:]):
            for kind in group:
                file[f"{group[0]}/{kind.replace('?', 'b')}"] = np.ones(2, kind)
        file["text"] = "variable"
        file.create_dataset("lists", (2,), h5py.vlen_dtype("f2"))[1] = [1, 2]
        file.create_dataset("kinds", (2,), h5py.enum_dtype({"a": 1, "b": 2}, "i4"))
    with open_checked(tmp_path / "x.h5", "test", sequences=True) as file:
        assert file["?"]["b"][()].all()
        assert file["lists"][1].tolist() == [1, 2]


def test_a_sequence_of_an_unknown_kind_is_refused(tmp_path):
    """It is neither text nor a list: the library calls a function that it does not have."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (1,), h5py.vlen_dtype("i1"))[0] = [1]
    data = bytearray(path.read_bytes())
    at = data.index(bytes((0x19, 0, 0, 0, 16, 0, 0, 0)))
    data[at + 1] = 2
    path.write_bytes(data)
    with (
        pytest.raises(
            FileFormatError, match="'/x' holds elements of a type that h5py does not write"
        ),
        open_checked(path, "test", sequences=True),
    ):
        pass


def nodes(data, kind, level):
    """Where the nodes of trees begin."""
    found, at = [], data.find(b"TREE")
    while at >= 0:
        if (data[at + 4], data[at + LEVEL]) == (kind, level):
            found.append(at)
        at = data.find(b"TREE", at + 1)
    assert found
    return found


def own_child(data, kind, level):
    for node in nodes(data, kind, level):
        data[node + LEVEL] = level + 1
        struct.pack_into("<Q", data, node + CHILD[kind], node)


def own_sibling(data, kind, level):
    for node in nodes(data, kind, level):
        struct.pack_into("<Q", data, node + RIGHT, node)


def one_child_twice(data, kind, level):
    for node in nodes(data, kind, level):
        (entries,) = struct.unpack_from("<H", data, node + ENTRIES)
        if entries > 1:
            first, step = node + CHILD[kind], CHILD[kind] - BODY + 8
            data[first + step : first + step + 8] = data[first : first + 8]


@pytest.mark.parametrize("edit", [own_child, own_sibling, one_child_twice])
@pytest.mark.parametrize("kind", [GROUP, CHUNK])
@pytest.mark.parametrize("level", [0, 1])
def test_trees_that_lead_back_are_refused(tmp_path, edit, kind, level):
    path = tmp_path / "x.h5"
    write(path)
    data = bytearray(path.read_bytes())
    edit(data, kind, level)
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged tree at byte .* Write the file again"):
        read(path)


def test_free_space_in_a_circle_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    write(path)
    data = bytearray(path.read_bytes())
    heap = data.index(b"HEAP")
    size, _, names = struct.unpack_from("<QQQ", data, heap + 8)
    struct.pack_into("<Q", data, heap + 16, size - 16)  # the first free block
    struct.pack_into("<QQ", data, names + size - 16, size - 16, 16)  # follows itself
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged heap of names at byte"):
        read(path)


def test_a_header_that_goes_on_in_itself_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    write(path)
    with h5py.File(path) as file:
        header = file.id.links.get_info(b"chunks").u
    data = bytearray(path.read_bytes())
    version, _, size = struct.unpack_from("<BxH4xI", data, header)
    assert version == 1
    at, end = header + 16, header + 16 + size
    while at < end:
        kind, length = struct.unpack_from("<HH", data, at)
        if kind == 0x10:  # goes on elsewhere
            struct.pack_into("<QQ", data, at + 8, header + 16, size)
            break
        at += 8 + length
    assert at < end
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged object header at byte"):
        read(path)


@pytest.mark.parametrize("version", [4, 255])
def test_unknown_superblocks_are_refused(tmp_path, version):
    path = tmp_path / "x.h5"
    write(path)
    data = bytearray(path.read_bytes())
    data[8] = version
    path.write_bytes(data)
    with pytest.raises(FileFormatError):
        read(path)


def test_lzf_is_refused(tmp_path):
    """Its chunks unpack to 88 times their size, with no bound in the library."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", (5, 6), "f8", chunks=(5, 6), compression="lzf")
        data.id.write_direct_chunk((0, 0), b"\0\0" + b"\xe0\xff\0" * 1000)
    with (
        pytest.raises(FileFormatError, match=r"\[32000\].*Write it again with compression='gzip'"),
        open_checked(tmp_path / "x.h5", "test"),
    ):
        pass


FLETCHER, DEFLATE = h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_DEFLATE
CHUNK = 1000
STORED = {  # what a chunk of 1000 bytes is stored as, and its filters in the order of writing
    "short": (b"x" * 10, ()),
    "long": (bytes(2 * CHUNK), ()),
    "shorter than its checksum": (b"xx", (FLETCHER,)),
    "unpacks to too little": (zlib.compress(bytes(10)), (DEFLATE,)),
    "unpacks to too much": (zlib.compress(bytes(CHUNK + 1)), (DEFLATE,)),
    "unpacks to less than its checksum": (zlib.compress(b"xx"), (FLETCHER, DEFLATE)),
    "no deflated data": (b"x" * 500, (DEFLATE,)),
    "packed data shorter than their checksum": (b"xx", (DEFLATE, FLETCHER)),
}


def write_chunk(path, stored, filters, mask=0):
    kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    kept.set_chunk((CHUNK,))
    for kind in filters:
        kept.set_deflate(9) if kind == DEFLATE else kept.set_fletcher32()
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((CHUNK,))
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, kept)
        made.write_direct_chunk((0,), stored, mask)


@pytest.mark.parametrize("case", STORED)
def test_chunks_of_another_size_than_their_place_are_refused(tmp_path, case):
    """The library reads beyond them, and returns what lies there as values."""
    write_chunk(tmp_path / "x.h5", *STORED[case])
    with (
        pytest.raises(FileFormatError, match="a chunk of '/x' unpacks to .*; expected 1000. Write"),
        open_checked(tmp_path / "x.h5", "test"),
    ):
        pass


@pytest.mark.parametrize(
    ("filters", "mask"), [((DEFLATE,), 0), ((FLETCHER, DEFLATE), 1), ((DEFLATE, FLETCHER), 2)]
)
def test_chunks_may_leave_filters_out(tmp_path, filters, mask):
    write_chunk(tmp_path / "x.h5", zlib.compress(bytes(CHUNK)), filters, mask)
    with open_checked(tmp_path / "x.h5", "test") as file:
        assert not file["x"][()].any()


@pytest.mark.parametrize("chunks", [None, (4,)])
@pytest.mark.parametrize("fill_time", ["never", "alloc"])
def test_fill_values_shorter_than_an_element_are_refused(tmp_path, chunks, fill_time):
    """The library reads a whole element where the value lies."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", (4,), "S11", chunks=chunks, fillvalue=b"a" * 11, fill_time=fill_time
        )
    with open_checked(path, "test") as file:
        assert file["x"].fillvalue == b"a" * 11
    data = bytearray(path.read_bytes())
    at = data.index(b"a" * 11) - 4
    assert struct.unpack_from("<I", data, at) == (11,)
    struct.pack_into("<I", data, at, 5)
    path.write_bytes(data)
    with (
        pytest.raises(
            FileFormatError, match="'/x' has a fill value of 5 bytes; expected 11, those"
        ),
        open_checked(path, "test"),
    ):
        pass


def test_fill_values_of_variable_length_are_refused(tmp_path):
    """They lie in a heap that is not walked."""
    kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    text = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
    kept.set_fill_value(np.array(b"text", dtype=object))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        h5py.h5d.create(file.id, b"x", text, h5py.h5s.create_simple((1,)), kept)
    with (
        pytest.raises(FileFormatError, match="fill value of 16 bytes; expected none for its type"),
        open_checked(tmp_path / "x.h5", "test"),
    ):
        pass


@pytest.mark.parametrize(("n_sets", "length"), [(1, 1 << 27), (70, 1)])
def test_nothing_is_unpacked_before_all_sizes_are_summed(tmp_path, monkeypatch, n_sets, length):
    """1 GiB of zeros in a dataset, or 70 datasets of one number in chunks of 8 MiB."""
    packed = zlib.compress(bytes(8 << 20), 9)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for n in range(n_sets):
            options = {"chunks": (1 << 20,), "maxshape": (None,), "compression": "gzip"}
            made = file.create_dataset(f"x{n}", (length,), "f8", **options)
            for first in range(0, length, 1 << 20):
                made.id.write_direct_chunk((first,), packed)
    unpack, n_unpacked = zlib.decompressobj, []
    monkeypatch.setattr("zlib.decompressobj", lambda: n_unpacked.append(1) or unpack())
    with (
        pytest.raises(FileFormatError, match="unpacks to more than 536870912 bytes"),
        open_checked(tmp_path / "x.h5", "test"),
    ):
        pass
    assert len(n_unpacked) == (0 if n_sets == 1 else 64)
