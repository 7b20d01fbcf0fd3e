"""``biril card`` writes what is known, escapes what files say, and never overwrites by itself."""

from __future__ import annotations

import re

import numpy as np
import pytest

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.commands.card import card_text, escaped
from tests.support.command_line import biril, refused
from tests.support.own_nets import Loop, samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network in a folder of a training."""
    from biril_nm.training.run_config import RunConfig

    folder = tmp_path_factory.mktemp("run")
    config = bnm.ModelConfig((1, 8, 8), 10, hidden=(12,), coding=Coding("direct", 4, 8))
    bnm.save(bnm.build_model("mlp", config, seed=1), folder / "model.pt")
    RunConfig(dataset="digits", model="mlp", net=config).write(folder / "config.toml")
    return folder


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.M))


def test_a_card_says_what_is_known_and_leaves_the_rest_open(folder):
    done = biril("card", folder, "--dataset", "digits", "--samples", 2, "--against", "torch,sim")
    assert done.returncode == 0, done.stderr
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = rows(text)
    assert text.startswith("# model.pt\n")
    assert found["data"] == "digits"
    assert found["test samples"] == "360"
    for engine in ("float (torch)", "integers (simulator)"):
        assert re.fullmatch(r"\d+\.\d\d%", found[f"accuracy, {engine}"])
    assert found["cores"] == "1"
    assert "J, " in found["energy per sample, modelled"]
    assert found["engines"] == "torch, sim"
    assert "predictions equal" in found["result"]
    assert found["licence of the model"] == "(fill in)"
    refused(biril("card", folder), "README.md", "--force")
    before = text
    assert biril("card", folder, "--against", "", "--force").returncode == 0
    after = rows((folder / "README.md").read_text(encoding="utf-8"))
    assert after["accuracy"] == "not measured; give --dataset, or --spikes and --labels"
    assert after["result"] == "not compared"
    assert before != text or "test samples" not in after
    refused(biril("card", folder, "-o", folder / "card.txt"), "ends in .md")
    other = ("card", folder, "-o", folder / "other.md")
    refused(biril(*other, "--against", "sim"), "expected at least two of")
    assert not (folder / "other.md").exists()


def test_the_card_of_an_own_network_has_figures_of_own_samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bnm.save(Loop.strong(), "model.pt", coding=Coding("spikes", 8), input_shape=(12,))
    spikes, labels = samples(6)
    np.save("x.npy", spikes)
    np.savez("mine.npz", spikes=spikes, labels=labels)
    how = ("--architecture", "tests.support.own_nets:Loop", "--against", "torch,sim", "--force")
    for own in (("--spikes", "mine.npz"), ("--spikes", "x.npy"), ()):
        done = biril("card", "model.pt", *how, *own)
        assert done.returncode == 0, done.stderr
        found = rows((tmp_path / "README.md").read_text(encoding="utf-8"))
        assert found["architecture"].startswith("Loop, ")
        assert found["data"] == escaped(own[1] if own else "(fill in)")
        assert ("test samples" in found) == (own == ("--spikes", "mine.npz"))
        if "test samples" in found:
            assert found["test samples"] == "6"
            assert re.fullmatch(r"\d+\.\d\d%", found["accuracy, float (torch)"])
        else:
            assert found["accuracy"].startswith("not measured; give --dataset, or --spikes")
    refused(
        biril("card", "model.pt", *how, "--spikes", "x.npy", "--dataset", "digits"),
        "--spikes holds",
    )


def test_names_from_files_are_text():
    text = card_text("<b>x|y</b>", {"Network": [("a|b", "[click](http://x) `c`\n# big \x1b[2J")]})
    assert "# \\<b\\>x\\|y\\</b\\>" in text
    assert "\\[click\\](http://x) \\`c\\`; \\# big \\\\x1b\\[2J" in text
    assert text.count("\n# ") == 0
    assert escaped("plain 1.5%") == "plain 1.5%"


def test_the_version_is_shown():
    done = biril("--version")
    assert done.returncode == 0
    assert done.stdout == f"biril-nm {bnm.__version__}\n"
