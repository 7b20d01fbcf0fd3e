"""Folders of recordings that attack: links, pipes, numbers without end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.recording import Recording
from biril_nm.recording.folder import HEADER, RecordingFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = RecordingFolder(tmp_path, (2, 5))
    writer.allocate("lif", "s", 4)[:] = 1
    writer.close({"lif": (4,)}, {"n_spikes": {"lif": 40}, "meta": {"n_steps": 5, "batch": 2}})
    assert Recording.load(tmp_path)["lif"].s.sum() == 40
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        '{"batch": Infinity}',
        "[" * 5000 + "]" * 5000,
        '{"nodes": ' + "9" * 5000 + "}",
        "[]",
        "3",
        '{"format": [[]]}',
        "",
    ],
)
def test_headers(text: str, folder: Path) -> None:
    (folder / HEADER).write_text(text)
    with pytest.raises(
        FileFormatError, match="is not JSON|nests deeper|not the folder of a recording"
    ):
        Recording.load(folder)


@pytest.mark.parametrize("key", ["batch", "n_steps", "nodes", "n_spikes", "meta"])
@pytest.mark.parametrize("value", [-1, 1 << 62, 1.5e300, "x", None, [1], {"lif": 3}, True])
def test_values(key: str, value: object, folder: Path) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps({**header, key: value}))
    if (key, value) in (("n_spikes", {"lif": 3}), ("meta", {"lif": 3})):
        assert len(Recording.load(folder)) == 1
    else:
        with pytest.raises(FileFormatError, match=folder.name):
            Recording.load(folder)


def _link(path: Path) -> None:
    outside = path.parent.parent / "outside.npy"
    path.rename(outside)
    path.symlink_to(outside)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_link, _pipe])
@pytest.mark.parametrize("name", [HEADER, "0.lif.s.npy"])
def test_members_that_are_no_files(name: str, change: Callable[[Path], None], folder: Path) -> None:
    change(folder / name)
    with pytest.raises(FileFormatError, match="expected a regular file"):
        Recording.load(folder)


@pytest.mark.parametrize("file", ["../outside.npy", "/etc/hostname", "", ".", "sub/x.npy"])
def test_names_that_leave_the_folder(file: str, folder: Path) -> None:
    np.save(folder.parent / "outside.npy", np.ones((2, 5, 4), np.uint8))
    header = json.loads((folder / HEADER).read_text())
    header["nodes"]["lif"]["arrays"]["s"] = file
    (folder / HEADER).write_text(json.dumps(header))
    with pytest.raises(FileFormatError, match=r"outside|regular|not exist"):
        Recording.load(folder)
