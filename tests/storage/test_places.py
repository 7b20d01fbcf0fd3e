"""Places where nothing can be written: refused at once, with the place, by every writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from biril_nm.errors import StorageError
from biril_nm.storage import atomic_directory, atomic_file, check_output, lock_folder


@pytest.mark.parametrize("name", ["file/x", "file/x/y", "a" * 256, "a" * 256 + "/x", ".", ".."])
def test_an_output_that_cannot_be_made_is_refused_before_anything_is_computed(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for folder_with in (None, "network.npz"):
        with pytest.raises(StorageError, match=r"output '.*(not a folder|no name|at most 255)"):
            check_output(name, force=True, folder_with=folder_with)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert check_output("new/x", force=False) == Path("new/x")
    assert check_output("a" * 255, force=False) == Path("a" * 255)


@pytest.mark.parametrize("writer", [atomic_file, atomic_directory, lock_folder])
@pytest.mark.parametrize("place", ["/proc/x", "/proc/none/x", "/sys/x", "{tmp}/" + "a" * 256])
def test_writers_say_at_once_which_place_takes_no_files(writer, place, tmp_path):
    path = place.format(tmp=tmp_path)
    with pytest.raises(StorageError, match=r"cannot be written: .* Choose a place"), writer(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_one_may_not_write_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(StorageError, match="where you may not write. Choose another path"):
        check_output(tmp_path / "x", force=False)
