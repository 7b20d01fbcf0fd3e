"""Events that a file may hold and a sensor cannot send: nothing is cast, cut or counted silently."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from biril_nm.data import event_files, load_data
from biril_nm.data.cache import files_key
from biril_nm.data.event_files import read_events
from biril_nm.data.frames import (
    EVENT,
    MAX_SPAN_US,
    MAX_WINDOWS,
    FrameSettings,
    as_events,
    count_frames,
    windows,
)
from biril_nm.errors import FileFormatError

NAMES = ("x", "y", "t", "p")


def columns(kind: type = np.int64) -> np.ndarray:
    """Five events in columns x, y, t, p."""
    return np.array([[3, 7, 10 * i, i % 2] for i in range(5)], dtype=kind)


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.float32])
def test_transposed_columns_are_read_in_their_order(kind, tmp_path):
    made = np.asfortranarray(columns(kind))
    np.save(tmp_path / "a.npy", made)
    assert b"'fortran_order': True" in (tmp_path / "a.npy").read_bytes()
    found = read_events(tmp_path / "a.npy")
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(found[name], made[:, i])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.nan, "has x with value nan; expected whole numbers"),
        ("x", 3.7, r"has x with value 3\.7; expected whole numbers"),
        ("t", np.inf, "has t from 0.0 to inf; expected -9223372036854775808"),
        ("t", 2.0**63, "has t from .*; expected -9223372036854775808 to 9223372036854775807"),
        ("x", 2**32 + 5, "has x from 3 to 4294967301; expected -2147483648 to 2147483647"),
        ("p", 256, "has p from 0 to 256; expected -128 to 127"),
        ("t", np.uint64(2**64 - 1), "has t from 0 to 18446744073709551615; expected"),
        ("x", 1j, r"has x of complex128 in shape \(5,\); expected whole numbers \(n,\)"),
    ],
)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_values_that_a_field_cannot_hold_are_refused(ending, name, value, message, tmp_path):
    arrays = dict(zip(NAMES, columns().T))
    arrays[name] = arrays[name].astype(np.asarray(value).dtype)
    arrays[name][-1] = value
    path = tmp_path / f"a{ending}"
    if ending == ".npz":
        np.savez(path, **arrays)
    else:
        fields = np.zeros(5, [(key, array.dtype) for key, array in arrays.items()])
        for key, array in arrays.items():
            fields[key] = array
        np.save(path, fields)
    with pytest.raises(FileFormatError, match=message):
        read_events(path)


def test_fields_of_several_values_are_refused():
    wide = np.zeros(3, [("x", np.int32, 2), ("y", np.int32), ("t", np.int64), ("p", bool)])
    with pytest.raises(FileFormatError, match=r"it has x of int32 in shape \(3, 2\)"):
        as_events(wide, "it")
    dated = np.zeros(3, [("x", "i4"), ("y", "i4"), ("t", "M8[us]"), ("p", "?")])
    with pytest.raises(FileFormatError, match=r"it has t of datetime64.* expected whole numbers"):
        as_events(dated, "it")
    nested = np.zeros(3, [("x", [("a", "i4")]), ("y", "i4"), ("t", "i8"), ("p", "?")])
    with pytest.raises(FileFormatError, match="it has x of .* expected whole numbers"):
        as_events(nested, "it")


def times(*given: int) -> np.ndarray:
    made = np.zeros(len(given), EVENT)
    made["t"] = given
    return made


def test_times_far_apart_are_refused_and_the_largest_span_is_counted_right():
    for first, last in ((0, MAX_SPAN_US + 1), (-(2**63), 2**63 - 1), (2**63 - 1, -(2**63))):
        with pytest.raises(FileFormatError, match=r"it has t from .*; expected at most 1,099,511"):
            as_events(times(first, last), "it")
    start = 2**63 - 1 - MAX_SPAN_US
    events = as_events(times(start + MAX_SPAN_US, start, start + MAX_SPAN_US // 2), "it")
    assert (np.diff(events["t"]) > 0).all(), "not in order"
    counts = count_frames(events, FrameSettings(1, 1, 1, 1 << 20, "time"))
    np.testing.assert_array_equal(np.flatnonzero(counts), [0, (1 << 19) - 1, (1 << 20) - 1])


def test_a_recording_has_so_many_windows_at_most():
    made = times(0, 1000 * MAX_WINDOWS)
    assert sum(1 for _ in windows(made, 1000)) == MAX_WINDOWS
    with pytest.raises(
        FileFormatError, match="it lasts .* 65,538 samples of 1,000; .*65,536. Take longer samples"
    ):
        next(windows(times(0, 1000 * (MAX_WINDOWS + 2)), 1000, "it"))


def test_bytes_left_over_are_refused(tmp_path):
    whole = b"#!AER-DAT2.0\r\n" + bytes(16)
    (tmp_path / "a.aedat").write_bytes(whole)
    assert len(read_events(tmp_path / "a.aedat")) == 2
    (tmp_path / "b.aedat").write_bytes(whole + b"123")
    with pytest.raises(
        FileFormatError, match="has 19 bytes after its header; expected a multiple of 8"
    ):
        read_events(tmp_path / "b.aedat")


def test_headers_of_many_lines_are_refused(tmp_path):
    """They are looked at line by line."""
    begin, line = b"#!AER-DAT2.0\n", b"#\n"
    for name, n_lines in (("a", 32_761), ("b", 32_762)):  # up to 65,536 bytes
        (tmp_path / f"{name}.aedat").write_bytes(begin + n_lines * line + bytes(8))
    assert len(read_events(tmp_path / "a.aedat")) == 1
    with pytest.raises(FileFormatError, match="a header of more than 65536 bytes; expected a few"):
        read_events(tmp_path / "b.aedat")


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "a.npy").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileFormatError, match=r"file '.*a\.npy' cannot be read: No such file"):
        files_key(tmp_path, [tmp_path / "a.npy"])


@pytest.mark.parametrize("error", [OSError("truncated file"), KeyError("labels")])
def test_a_set_that_tonic_cannot_open_is_a_damaged_file(error, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise error

    _with_tonic(monkeypatch, type("SHD", (), {"__init__": refuse}))
    with pytest.raises(
        FileFormatError, match="Spiking Heidelberg Digits in '.*' cannot be read: .*(trunc|labels)"
    ):
        load_data("shd", tmp_path)


def test_a_label_that_is_no_number_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"")

    class Shd:
        def __init__(self, root, train):
            self.data = [Path(root) / "a.bin"]

        def __len__(self):
            return 1

        def __getitem__(self, row):
            return times(0, 1), "four"

    monkeypatch.setenv("BIRIL_CACHE", str(tmp_path / "cache"))
    _with_tonic(monkeypatch, Shd)
    with pytest.raises(FileFormatError, match="sample 0 of SHD cannot be read: .*'four'"):
        load_data("shd", tmp_path)


def test_more_events_than_memory_holds_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "MAX_EVENTS", 4)
    whole = np.zeros(5, EVENT)
    np.save(tmp_path / "a.npy", whole)
    np.savez(tmp_path / "b.npz", **{name: whole[name] for name in NAMES})
    for name in ("a.npy", "b.npz"):
        with pytest.raises(FileFormatError, match="holds 5 events; expected at most 4"):
            read_events(tmp_path / name)
    (tmp_path / "c.bin").write_bytes(bytes(25))
    with pytest.raises(FileFormatError, match="is larger than 20 bytes"):
        read_events(tmp_path / "c.bin")
    with pytest.raises(FileFormatError, match="holds 25 bytes; expected at most 20"):
        event_files.check_events(tmp_path / "c.bin")


@pytest.mark.parametrize(
    "descr",
    [
        "[('x', '<i4'), ('x', '<i4')]",
        "[('x', '|O'), ('y', '<i4')]",
        "[('x', '<i4', (9,)), ('y', '<i4')]",
        "[('x', '<i3')]",
        "[]",
        "[" + "('x', '<i4'), " * 99 + "]",
        "[" + "(" * 900 + "]",
    ],
)
def test_records_of_other_kinds_are_refused(descr, tmp_path):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(99)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(FileFormatError, match="records|is not a plain array"):
        read_events(tmp_path / "a.npy")


def test_records_with_gaps_are_read(tmp_path):
    kind = np.dtype([("x", "u1"), ("t", "i8"), ("p", "?"), ("y", "u2")], align=True)
    made = np.zeros(3, kind)
    made["t"], made["y"] = [3, 4, 5], 7
    np.save(tmp_path / "a.npy", made)
    found = read_events(tmp_path / "a.npy")
    assert found["t"].tolist() == [3, 4, 5] and found["y"].tolist() == [7, 7, 7]


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_files_are_checked_before_tonic_opens_them(kind, tmp_path, monkeypatch):
    folder = tmp_path / "SHD"
    folder.mkdir()
    if kind == "pipe":
        os.mkfifo(folder / "shd_train.h5")
    else:
        with h5py.File(folder / "shd_train.h5", "w") as file:
            file["labels"] = h5py.ExternalLink("/etc/hostname", "/")
    _with_tonic(monkeypatch, type("SHD", (), {"__init__": lambda *args, **options: 1 / 0}))
    with pytest.raises(FileFormatError, match="is a named pipe|is a link, which is never followed"):
        load_data("shd", tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, BaseException])
def test_a_panic_of_a_decoder_is_a_damaged_file(error, tmp_path, monkeypatch):
    def panic(path):
        raise error("called unwrap on None")

    tonic = SimpleNamespace(io=SimpleNamespace(read_aedat4=panic))
    monkeypatch.setattr("biril_nm.data.event_files.library", lambda *names: tonic)
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0")
    with pytest.raises(error if error is KeyboardInterrupt else FileFormatError, match="unwrap"):
        read_events(tmp_path / "a.aedat4")


def _with_tonic(monkeypatch, kind):
    tonic = SimpleNamespace(datasets=SimpleNamespace(SHD=kind))
    monkeypatch.setattr("biril_nm.data.event_sets.library", lambda *names: tonic)
