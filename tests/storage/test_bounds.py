"""Attacks on the readers of files: each is refused at once, by name, before memory is taken."""

from __future__ import annotations

import io
import os
import socket
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.storage import (
    bounds,
    map_npy,
    open_regular,
    parse_json,
    read_document,
    read_json,
    read_json_lines,
    read_npz,
    read_toml,
    text,
    write_document,
    zips,
)
from biril_nm.storage.hdf5 import open_checked

READERS: dict[str, Callable[[Path], Any]] = {
    "npz": read_npz,
    "npy": map_npy,
    "json": read_json,
    "toml": read_toml,
    "hdf5": lambda path: open_checked(path, "NIR").__enter__(),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("what", ["fifo", "socket", "device", "folder", "loop", "missing", "null"])
def test_only_regular_files_are_opened(what: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if what == "fifo":
        os.mkfifo(path)  # opening it would wait for ever
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif what == "folder":
        path.mkdir()
    elif what in ("device", "loop"):
        path.symlink_to("/dev/zero" if what == "device" else path)
    elif what == "null":
        path = tmp_path / "a\0b"
    with pytest.raises(FileFormatError, match="expected a regular|not exist|cannot be opened"):
        READERS[kind](path)


def test_links_are_followed_where_the_user_names_them(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert read_json(tmp_path / "link") == 1
    with pytest.raises(FileFormatError, match="link' is a link; expected a regular file"):
        open_regular(tmp_path / "link", follow_links=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[" * 100_000, "deeper than 64"),
        ("[" * 66 + "]" * 66, "deeper than 64"),
        ('{"a":' * 66 + "1" + "}" * 66, "deeper than 64"),
        ("9" * 5000, "integer of 5000 digits"),
        ("-18446744073709551616", "integer of 65 bits"),
        ("NaN", "NaN is not a number of JSON"),
        ('{"a": [-Infinity]}', "-Infinity is not a number of JSON"),
        ("[1e400]", "holds the number inf"),
        ('"\\ud800"', "not Unicode"),
        ('{"\\ud800": 1}', "not Unicode"),
        ("[" + "0," * 2_000_000 + "0]", "more than 4000000 values"),
        ("{", "is not JSON"),
        (b"\xff", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_json_beyond_the_bounds(data: str | bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=f"the header .*{message}"):
        parse_json(data, "the header")


def test_json_within_the_bounds() -> None:
    value = [{"a": 1.5, "b": -(1 << 63)}, None, True, "é\U0001f600", [[[]]]]
    assert (
        parse_json('[{"a": 1.5, "b": -9223372036854775808}, null, true, "é😀", [[[]]]]', "x")
        == value
    )
    assert parse_json("[" * 65 + "]" * 65, "x")


def test_large_texts_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileFormatError, match="x' is larger than 10 bytes"):
        (tmp_path / "x").write_text(" " * 11)
        read_json(tmp_path / "x", max_bytes=10)
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 5)
    with pytest.raises(FileFormatError, match="x is larger than 5 bytes"):
        parse_json("123456", "x")


@pytest.mark.parametrize("mark", [",0", ",{}", "[[]],"])
def test_countless_values_are_not_made(mark: str, tmp_path: Path) -> None:
    """Lists and tables take up to 60 times the memory of their text."""
    path = tmp_path / "x.jsonl"
    path.write_text("[0" + mark * 4_000_001 + "0]")
    for read in (read_json, read_json_lines):
        with pytest.raises(
            FileFormatError, match="[0-9]+ commas and opening brackets; expected at most 4000000"
        ):
            read(path)


def test_as_many_values_as_allowed_are_read() -> None:
    data = "[" + "{}," * 1_999_000 + "0]"
    assert len(parse_json(data, "x")) == 1_999_001


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a = inf", "holds the number inf"),
        ("a = [nan]", "holds the number nan"),
        (f"a = {'9' * 5000}", "is not TOML|integer of"),
        (f"a = 0x{'f' * 5000}", "integer of 20000 bits"),
        (f"a = {'[' * 5000}{']' * 5000}", "deeper than 64"),
        (f"[{'a.' * 200}a]\nb = 1", "deeper than 64"),
        (f"{'a.' * 1001}a = 1", "has a line of 1001 dots; expected at most 1000. Write a list"),
        (f"[{'a . ' * 1001}a]", "has a line of 1001 dots; expected at most 1000. Write a list"),
        (
            f"[{'a.' * 1000}a]\n" * 20 + "a.b = 1",
            "has 20001 dots; expected at most 20000. Write fewer",
        ),
        ("a = 1979-05-27", "holds a date"),
        ("a = ", "is not TOML"),
        ("a = 1\na = 2", "is not TOML"),
    ],
)
def test_toml_beyond_the_bounds(data: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(data)
    with pytest.raises(FileFormatError, match=rf"x\.toml' .*({message})"):
        read_toml(tmp_path / "x.toml")


def test_half_a_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3, "lo')
    assert read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 1}\n{"epoch": 2}')
    assert read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 1\n{"epoch": 2}\n')
    with pytest.raises(FileFormatError, match="line 1 of .* is not JSON"):
        read_json_lines(path)


def test_a_file_of_countless_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"[1]\n" * 200_001)
    with pytest.raises(FileFormatError, match="has 200002 lines; expected at most 200000"):
        read_json_lines(path)


# --- arrays -------------------------------------------------------------------------------------


def npy(descr: str = "'<i4'", shape: str = "(2,)", body: bytes = bytes(8), tail: str = "") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}{tail}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


BAD_ARRAYS = {
    "no item size": (npy("'|S0'", "(-1,)"), "not a plain array"),
    "empty items": (npy("'|S0'"), "elements of type '|S0'"),
    "empty text": (npy("'<U0'"), "elements of type '<U0'"),
    "void": (npy("'|V8'"), "Objects and records are never read"),
    "objects": (npy("'|O'"), "Objects and records are never read"),
    "record": (npy("[('a', '<i4')]"), "Objects and records are never read"),
    "subarray": (npy("('<i4', (0,))"), "Objects and records are never read"),
    "odd width": (npy("'<i3'"), "elements of type '<i3'"),
    "negative": (npy(shape="(-2,)"), "not a plain array"),
    "no tuple": (npy(shape="2"), "not a plain array"),
    "huge": (npy(shape="(9223372036854775807, 9)"), "claims"),
    "overflow": (npy(shape="(0, 9223372036854775807, 9)", body=b""), "shape|readable"),
    "many axes": (npy(shape=f"({'1, ' * 99})"), "shape|readable|not a plain"),
    "expression": (npy(shape="(1 << 40,)"), "not a plain array"),
    "nested": (npy(descr="-" * 4000 + "1"), "not a plain array"),
    "more keys": (npy(tail=", 'x': 1"), "not a plain array"),
    "short": (npy(body=bytes(7)), "claims 8 bytes"),
    "cut": (npy()[:20], "not a plain array"),
    "version": (b"\x93NUMPY\x09" + npy()[7:], "version 9"),
    "magic": (b"x" + npy()[1:], "not an array"),
    "long header": (b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(99), "header of 4294967295 bytes"),
}


@pytest.mark.parametrize("attack", BAD_ARRAYS)
def test_arrays_that_are_none(attack: str, tmp_path: Path) -> None:
    data, message = BAD_ARRAYS[attack]
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(FileFormatError, match=rf"x\.npy' .*({message})"):
        map_npy(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(FileFormatError, match=rf"x\.npz': member 'a\.npy' .*({message})"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3, np.uint8),
        np.array("text"),
        np.zeros((0, 4), bool),
        np.array([b"ab"]),
        np.array([1 + 2j]),
    ],
)
def test_plain_arrays_of_any_kind(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", a=array)
    for found in (map_npy(tmp_path / "x.npy"), read_npz(tmp_path / "x.npz")["a"]):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


# --- archives -----------------------------------------------------------------------------------


def test_a_directory_of_many_members_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for i in range(100):
            archive.writestr(f"{i}", b"")
    monkeypatch.setattr(zips, "MAX_READ", 2000)
    with pytest.raises(
        FileFormatError, match=r"x.npz' .*directory is larger than 2000 bytes|its directory"
    ):
        read_npz(tmp_path / "x.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_occur_twice_or_are_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy())
        archive.writestr("a.npy", npy())
    with pytest.raises(FileFormatError, match="member 'a.npy' occurs twice"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="member 'a.npy' is encrypted"):
        read_npz(path)


def test_zeros_that_unpack_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SMALL_BYTES", 16 << 20)
    body, path = bytes(2 << 20), tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(9):
            with archive.open(f"{i}.npy", "w") as stream:
                stream.write(npy("'|u1'", f"({len(body)},)", body))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(FileFormatError, match="unpacks to more than 16777216 bytes"):
        read_npz(path)
    with pytest.raises(FileFormatError, match="unpacks to more than 1000 bytes"):
        read_npz(path, max_bytes=1000)


def test_elements_count_as_wide_as_they_become(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1000, bool))
    assert read_npz(tmp_path / "x.npz", max_bytes=1000)["a"].size == 1000
    with pytest.raises(FileFormatError, match="more than 3999 bytes"):
        read_npz(tmp_path / "x.npz", max_bytes=3999, item_bytes=4)


def test_documents(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_document(path, {"format": "f", "version": 2, "a": [1]}, {"w": np.arange(3)})
    header, arrays = read_document(path, "f", (1, 2))
    assert header["a"] == [1]
    assert list(arrays) == ["w"]
    first = path.read_bytes()
    write_document(path, header, arrays)
    assert path.read_bytes() == first
    with pytest.raises(FileFormatError, match=r"\('f', 2\); expected 'f' of version 3"):
        read_document(path, "f", (3,))
    with pytest.raises(FileFormatError, match="would get holds the number nan"):
        write_document(path, {"a": float("nan")}, {})
    np.savez(path, header=np.zeros((2, 2), np.uint8))
    with pytest.raises(FileFormatError, match="has no header"):
        read_document(path, "f", (2,))


# --- HDF5 ---------------------------------------------------------------------------------------


def chunked(path: Path, shape: tuple[int, ...], chunk: int, raw: bytes, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "a",
            shape,
            "f8",
            chunks=(chunk,),
            maxshape=(None,),
            **{"compression": "gzip", **options},
        )
        for start in range(0, shape[0], chunk):
            data.id.write_direct_chunk((start,), raw)


def test_hdf5_of_zeros(tmp_path: Path) -> None:
    chunk = 1 << 17
    chunked(tmp_path / "x", (10**8,), chunk, zlib.compress(bytes(8 * chunk), 9))
    with pytest.raises(FileFormatError, match="unpacks to more than 536870912 bytes"):
        READERS["hdf5"](tmp_path / "x")


def test_a_chunk_that_unpacks_to_more_than_its_place(tmp_path: Path) -> None:
    stream = io.BytesIO()
    packer = zlib.compressobj(9)
    for _ in range(80):
        stream.write(packer.compress(bytes(1 << 20)))
    stream.write(packer.flush())
    chunked(tmp_path / "x", (8,), 8, stream.getvalue())
    with pytest.raises(
        FileFormatError, match="a chunk of '/a' unpacks to 69 bytes or more; expected 64"
    ):
        READERS["hdf5"](tmp_path / "x")


def test_chunks_larger_than_their_array(tmp_path: Path) -> None:
    chunked(tmp_path / "x", (8,), 1 << 24, zlib.compress(b"x"))
    with pytest.raises(FileFormatError, match="'/a' of 64 bytes has 1 chunks of 134217728 bytes"):
        READERS["hdf5"](tmp_path / "x")


def test_filters_that_would_be_looked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file.create_dataset("a", data=np.arange(9), chunks=(9,), scaleoffset=0)
    with pytest.raises(
        FileFormatError, match=r"'/a' is packed by filters \[6\]; readable are gzip"
    ):
        READERS["hdf5"](tmp_path / "x")


def test_names_that_are_not_text(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file.create_group(b"a\xff")
    with pytest.raises(FileFormatError, match="is not Unicode text"):
        READERS["hdf5"](tmp_path / "x")
