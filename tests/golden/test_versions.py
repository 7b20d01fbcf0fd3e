"""Every file carries a version; a later one is refused, a file without one is of version 1."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from biril_nm.errors import FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.plastic import read_rule
from biril_nm.learning.rules import RULES
from biril_nm.recording import Recording
from biril_nm.training.run_config import RunConfig

FILES = Path(__file__).parent / "v0_1_0"


def write_graph(path):
    LoihiGraph.load(FILES / "chain.loihi.npz").save(path)


def write_recording(path):
    Recording.load(FILES / "trace.npz").save(path)


def write_rule(path):
    path.write_text(json.dumps(RULES["pair"].to_dict()), encoding="utf-8")


def write_config(path):
    RunConfig().write(path)


def with_version(path, version):
    """The file again, with another version in its JSON or TOML text."""
    patterns = ((r'("(?:file_)?version": )\d+', rf"\g<1>{version}"),
                (r"^(version = )\d+", rf"\g<1>{version}"))  # fmt: skip

    def changed(text):
        for pattern, new in patterns:
            text, found = re.subn(pattern, new, text, count=1, flags=re.M)
            if found:
                return text
        raise AssertionError(f"{path.name} carries no version")

    if path.suffix != ".npz":
        path.write_text(changed(path.read_text(encoding="utf-8")), encoding="utf-8")
        return
    with np.load(path) as archive:
        arrays = dict(archive)
    if "header" in arrays:
        text = changed(arrays["header"].tobytes().decode())
        arrays["header"] = np.frombuffer(text.encode(), dtype=np.uint8)
    else:
        arrays["meta"] = np.array(changed(str(arrays["meta"])))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "write", "read", "newest"),
    [
        ("graph.loihi.npz", write_graph, LoihiGraph.load, 2),
        ("recording.npz", write_recording, Recording.load, 1),
        ("rule.json", write_rule, read_rule, 1),
        ("config.toml", write_config, RunConfig.read, 1),
    ],
)
def test_a_later_version_is_refused(name, write, read, newest, tmp_path):
    path = tmp_path / name
    write(path)
    read(path)
    with_version(path, 1)
    read(path)
    with_version(path, newest + 1)
    with pytest.raises(FileFormatError, match=f"version.* {newest + 1}"):
        read(path)


def test_a_folder_of_a_later_version_is_refused(tmp_path):
    header = json.loads((FILES / "trace" / "trace.json").read_text())
    header["format"] = header["format"].replace(" 1", " 2")
    (tmp_path / "trace.json").write_text(json.dumps(header))
    with pytest.raises(FileFormatError, match="folder 2"):
        Recording.load(tmp_path)


def test_facts_of_a_recording_do_not_grow_when_it_is_written_again(tmp_path):
    first = Recording.load(FILES / "trace.npz")
    first.save(tmp_path / "again.npz")
    assert Recording.load(tmp_path / "again.npz").meta == first.meta
