"""Engines and targets of another package in every command that takes a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from tests.support.command_line import biril, refused
from tests.support.third_party import registries_restored, write_package


@pytest.fixture
def graph_file(tmp_path, monkeypatch):
    """An integer graph that classifies digits, and the package on the path."""
    weight = np.random.default_rng(0).integers(-90, 100, (10, 64))
    nodes = {
        "in": Input((1, 8, 8), message_bits=8),
        "fc": Dense(weight, weight_exp=-6),
        "lif": Neurons((10,), vth=100, du=4095, dv=128),
        "out": Output(),
    }
    graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"), ("lif", "out")))
    path = tmp_path / "net.loihi.npz"
    graph.save(path)
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.syspath_prepend(str(write_package(package)))
    with registries_restored():
        yield path


def test_export_writes_their_target(graph_file, tmp_path):
    done = biril("export", graph_file, "--to", "text")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "net.txt"
    assert written.read_text() == "in\nfc\nlif\nout\n['in']"
    assert f"read it: less {written}" in done.stdout
    refused(biril("export", graph_file, "--to", "text"), "exists already", "--force")
    refused(biril("export", graph_file, "--to", "text", "-o", tmp_path / "x"), "ends in .txt")
    assert biril("export", graph_file, "--to", "plain", "-o", tmp_path / "f").returncode == 0
    assert (tmp_path / "f").is_dir()


def test_export_refuses_names_that_lead_nowhere(graph_file):
    refused(biril("export", graph_file, "--to", "txt"), "'txt' is unknown", "lava, netx", "text")
    refused(biril("export", graph_file, "--to", "gone"), "cannot be loaded", "Repair or uninstall")
    refused(
        biril("export", graph_file, "--to", "text", "--plastic", "fc=pair"),
        "target 'text' cannot express learning rules", "--to loihi",
    )  # fmt: skip


def test_parity_compares_their_engine(graph_file):
    done = biril("parity", graph_file, "--against", "sim,twin")
    assert done.returncode == 0, done.stderr
    assert "sim = twin" in done.stdout
    done = biril("parity", graph_file, "--against", "sim,wrong", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["mismatches"][0]["engines"] == ["sim", "wrong"]
    refused(biril("parity", graph_file, "--against", "sim,lacking"), "pip install a_package_that")
    refused(biril("parity", graph_file, "--against", "sim,tiwn"), "'tiwn' is unknown", "twin")


def test_eval_and_report_run_their_engine(graph_file, tmp_path):
    call = ("eval", graph_file, "--samples", 30, "--json", "--backend")
    sim, twin = (json.loads(biril(*call, name).stdout) for name in ("sim", "twin"))
    assert twin["backend"] == "twin"
    assert {**twin, "backend": "sim", "seconds": 0} == {**sim, "seconds": 0}
    assert sim["firing_rates"]["lif"] > 0
    wrong = json.loads(biril(*call, "wrong").stdout)
    assert wrong["firing_rates"] != sim["firing_rates"]
    page = tmp_path / "r.html"
    done = biril("report", graph_file, "--against", "sim,twin", "--samples", 2, "-o", page)
    assert done.returncode == 0, done.stderr
    assert "sim = twin" in page.read_text(encoding="utf-8")


def test_help_and_info_list_them(graph_file):
    package = graph_file.parent / "package"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
    for command, names in (("export", ("netx", "text")), ("parity", ("lava", "twin"))):
        call = [sys.executable, "-m", "biril_nm", command, "--help"]
        done = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
        assert all(name in done.stdout for name in names), done.stdout
    facts = json.loads(biril("info", "--json").stdout)
    assert {"nir", "lava", "text"} <= set(facts["backends"])
    assert facts["engines"]["twin"] is None
    assert "pip install a_package_that" in facts["engines"]["lacking"]
    assert "cannot be loaded" in facts["engines"]["gone"]
