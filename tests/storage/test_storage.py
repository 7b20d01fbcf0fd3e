"""Files: bounded archives, outputs that replace only their own kind."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from biril_nm.errors import FileFormatError, OutputExistsError
from biril_nm.storage import (
    atomic_directory,
    atomic_file,
    bounds,
    check_output,
    npz,
    read_npz,
    write_npz,
    zips,
)


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def archive(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_a_small_file_never_unpacks_to_much(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "SMALL_BYTES", 1 << 16)
    zeros = npy(np.zeros(1 << 15, np.uint8))
    read_npz(archive(tmp_path / "one.npz", {"a.npy": zeros}))
    many = archive(tmp_path / "bomb.npz", {f"{i}.npy": zeros for i in range(3)})
    with pytest.raises(FileFormatError, match=r"bomb.npz' unpacks to more than [0-9]+ bytes"):
        read_npz(many)
    noise = npy(np.random.default_rng(0).integers(0, 256, 1 << 18, dtype=np.uint8))
    assert read_npz(archive(tmp_path / "large.npz", {"a.npy": noise}))["a"].size == 1 << 18


def test_what_is_written_can_be_read_however_well_it_packs(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "SMALL_BYTES", 1 << 10)
    write_npz(tmp_path / "zeros.npz", {"a": np.zeros(1 << 20, np.uint8)})
    assert read_npz(tmp_path / "zeros.npz")["a"].size == 1 << 20
    monkeypatch.setattr(npz, "MAX_BYTES", 1 << 19)
    with pytest.raises(FileFormatError, match=r"would hold 1048576 bytes.*--record-to"):
        write_npz(tmp_path / "more.npz", {"a": np.zeros(1 << 20, np.uint8)})
    assert not (tmp_path / "more.npz").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_unpack_without_bound_are_refused(method, tmp_path):
    path = archive(tmp_path / "x.npz", {"a.npy": npy([1, 2])}, method)
    with pytest.raises(
        FileFormatError, match=rf"x.npz': member 'a.npy' is packed by method {method}"
    ):
        read_npz(path)


def test_any_damage_is_a_file_format_error(tmp_path):
    r = np.random.default_rng(0)
    path = tmp_path / "x.npz"
    write_npz(path, {"a": r.integers(0, 9, 500), "b": np.arange(300)})
    good = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(400):
        bad = good.copy()
        bad[r.integers(0, len(bad), 3)] = r.integers(0, 256, 3)
        path.write_bytes(bad[: len(bad) if r.random() < 0.8 else r.integers(0, len(bad))].tobytes())
        try:
            read_npz(path)
        except FileFormatError as error:
            assert "x.npz" in str(error)
            refused += 1
    assert refused > 300


def test_objects_are_not_written(tmp_path):
    with pytest.raises(FileFormatError, match="array 'a' holds Python objects"):
        write_npz(tmp_path / "x.npz", {"a": np.array([None])})
    assert not list(tmp_path.iterdir())


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "MAX_MEMBERS", 2)
    path = archive(tmp_path / "x.npz", {f"{i}.npy": npy([1]) for i in range(3)})
    with pytest.raises(FileFormatError, match="x.npz' has 3 members; expected at most 2"):
        read_npz(path)


def test_outputs_replace_their_own_kind_only(tmp_path):
    file, folder, bundle = tmp_path / "file", tmp_path / "folder", tmp_path / "bundle"
    file.write_text("precious")
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    bundle.mkdir()
    (bundle / "run.py").touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, folder, bundle, link):
        with pytest.raises(OutputExistsError, match=f"{path.name}' exists already. Pass --force"):
            check_output(path, force=False)
    with pytest.raises(OutputExistsError, match="folder' is a folder or device"):
        check_output(folder, force=True)
    with pytest.raises(OutputExistsError, match="null' is a folder or device"):
        check_output("/dev/null", force=True)
    for path in (file, folder):
        with pytest.raises(
            OutputExistsError, match=r"is not a folder with run.py.*remove it yourself"
        ):
            check_output(path, force=True, folder_with="run.py")
    assert check_output(file, force=True) == file
    assert check_output(link, force=True) == link
    assert check_output(bundle, force=True, folder_with="run.py") == bundle
    empty = tmp_path / "empty"
    empty.mkdir()
    assert check_output(empty, force=True, folder_with="run.py") == empty


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    with atomic_file(link) as part:
        part.write_text("new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_a_failure_leaves_nothing_behind(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "a").write_text("1")
    for context in (atomic_file, atomic_directory):
        with pytest.raises(ZeroDivisionError), context(tmp_path / "new"):
            1 / 0
    with pytest.raises(ZeroDivisionError), atomic_directory(old):
        1 / 0
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    with atomic_directory(old) as part:
        (part / "b").write_text("2")
    assert [p.name for p in old.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
