"""A writer that was faster is not overwritten: each looks again when it has the lock."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from biril_nm.errors import OutputExistsError
from biril_nm.export import to_nir, write_netx
from biril_nm.export.nir_files.files import write_nir
from biril_nm.export.report import write_report
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.models import ModelConfig, build_model, save
from biril_nm.models.weights import save_weights
from biril_nm.storage import atomic_file
from tests.support.command_line import biril, refused


def graph():
    nodes = {"in": Input((6,)), "c": Dense(np.full((4, 6), 40)), "n": Neurons((4,), vth=60)}
    edges = (("in", "c"), ("c", "n"), ("n", "out"))
    return LoihiGraph({**nodes, "out": Output()}, edges)


def net():
    return build_model("mlp", ModelConfig(input_shape=(1, 2, 2), hidden=(3,)), seed=0)


def spikes():
    return np.ones((3, 1, 6), np.uint8)


WRITERS = {
    "x.loihi.npz": lambda path: graph().save(path),
    "x.net": lambda path: write_netx(graph(), path),
    "x.nir": lambda path: write_nir(path, to_nir(net(), dt_s=1e-3)),
    "x.npz": lambda path: simulate(graph(), spikes()).save(path),
    "model.pt": lambda path: save(net(), path),
    "weights.pt": lambda path: save_weights(net(), path),
    "x.svg": lambda path: graph().draw().save(path),
}


@pytest.fixture
def unseen(monkeypatch):
    """The first look of each writer finds nothing, as if the file came behind it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("biril_nm.") and not name.startswith("biril_nm.storage"):
            for check in ("check_output", "check_page"):
                if check in vars(module):
                    monkeypatch.setattr(module, check, lambda path, *_: Path(path))


@pytest.mark.parametrize("name", WRITERS)
def test_the_faster_writer_stays(unseen, name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    first = path.read_bytes()
    with pytest.raises(OutputExistsError, match=f"{name}' exists already. Pass --force"):
        WRITERS[name](path)
    assert path.read_bytes() == first and [each.name for each in tmp_path.iterdir()] == [name]


def test_pages_of_the_faster_writer_stay(unseen, tmp_path):
    pytest.importorskip("jinja2", reason='needs pip install "biril-nm[report]"')
    pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"r.html' exists already"):
        write_report(path, graph())
    assert path.read_text() == "mine"


def test_a_card_of_the_faster_writer_stays(tmp_path, monkeypatch):
    from biril_nm.commands import card

    graph().save(tmp_path / "g.loihi.npz")
    path, text = tmp_path / "c.md", card.card_text

    def slow(*args):
        path.write_text("mine")
        return text(*args)

    words = ("card", tmp_path / "g.loihi.npz", "-o", path, "--against", "")
    with monkeypatch.context() as changed:
        changed.setattr(card, "card_text", slow)
        refused(biril(*words), "c.md' exists already")
    assert path.read_text() == "mine"
    assert biril(*words, "--force").returncode == 0 and path.read_text() != "mine"


def test_a_file_is_replaced_only_where_it_may_be(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(OutputExistsError), atomic_file(path, force=False) as part:
        part.write_text("new")
    assert path.read_text() == "old"
    with atomic_file(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
