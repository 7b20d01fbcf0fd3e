"""``biril report`` and ``biril parity`` with every engine that the source allows."""

from __future__ import annotations

import json

import pytest

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.export import lower, to_nir
from tests.support.command_line import biril, refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network as a model and as integers."""
    folder = tmp_path_factory.mktemp("small")
    config = bnm.ModelConfig((1, 8, 8), 10, hidden=(12,), coding=Coding("direct", 4, 8))
    net = bnm.build_model("mlp", config, seed=1)
    bnm.save(net, folder / "model.pt")
    lower(to_nir(net)).save(folder / "net.loihi.npz")
    return folder


def test_the_report_compares_torch(folder, tmp_path):
    page = tmp_path / "r.html"
    call = ("report", folder / "model.pt", "--samples", 3, "-o", page)
    done = biril(*call, "--against", "torch,sim")
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "parity of torch, sim" in text
    assert "torch ~ sim: " in text or "torch and the integer network" in text
    done = biril(*call, "--against", "", "--force")
    assert done.returncode == 0, done.stderr
    assert "parity of" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["report", "parity"])
def test_torch_needs_a_model(folder, command):
    done = biril(command, folder / "net.loihi.npz", "--against", "torch,sim")
    refused(done, "engine 'torch' needs the torch network", "give model.pt")


def test_parity_chooses_engines_by_name(folder):
    done = biril("parity", folder / "model.pt", "--against", "torch,sim", "--samples", 3, "--json")
    report = json.loads(done.stdout)
    assert report["engines"] == ["torch", "sim"] and report["n_samples"] == 3
    assert report["floats"]["engine"] == "torch" and report["n_compared"] == 0
    refused(biril("parity", folder / "model.pt", "--against", "sim"), "expected at least two of")


def test_short_names_of_options_work_in_every_command(folder, tmp_path):
    done = biril("export", folder / "model.pt", "--to", "nir", "-o", tmp_path / "x.nir")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.nir").is_file()
