"""The wheel in fresh environments of every Python, and extras that leave the torch of a user alone."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import fresh_python
from tests.support.fresh_python import VERSIONS, pip, run
from tests.support.sources import PROJECT, ROOT

NIR_FILE = ROOT / "tests" / "golden" / "norse_mlp.nir"
EXTRAS = PROJECT["project"]["optional-dependencies"]
OF_TORCH = ("torch", "scale", "all", "docs", "frameworks", "dev")  # extras that are made of torch
FOR_DEVELOPERS = ("frameworks", "dev")
# Packages that require torch, and those of them whose releases require one release of it.
NEED_TORCH = {
    "torch", "torchvision", "torchaudio", "snntorch", "nirtorch", "norse", "sinabs", "lava-dl",
    "lightning-fabric", "spikingjelly",
}  # fmt: skip
PIN_TORCH = {"torchvision", "torchaudio", "norse", "lava-dl"}


def requirements(extra: str) -> set[str]:
    """Names of the packages of an extra, with those of the extras that it names."""
    found: set[str] = set()
    for text in EXTRAS[extra]:
        name = re.match(r"[\w.-]+", text)[0].lower()
        if name == "biril-nm":
            for inner in re.search(r"\[(.*)\]", text)[1].split(","):
                found |= requirements(inner)
        else:
            found.add(name)
    return found


def test_no_package_of_the_light_half_needs_torch():
    names = {re.match(r"[\w.-]+", text)[0].lower() for text in PROJECT["project"]["dependencies"]}
    assert not names & (NEED_TORCH | {"scikit-learn", "lava-nc"})
    assert "numba" in names


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_extras_leave_torch_alone(extra):
    found = requirements(extra)
    assert bool(found & NEED_TORCH) == (extra in OF_TORCH)
    assert bool(found & PIN_TORCH) == (extra in FOR_DEVELOPERS)


def test_every_tested_python_has_a_lock_file():
    for version in VERSIONS:
        lines = (
            (ROOT / "requirements" / f"py{version.replace('.', '')}.lock").read_text().splitlines()
        )
        pins = [line for line in lines if not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", pin) for pin in pins), version
        names = {re.sub("[-_.]+", "-", pin.partition("==")[0].lower()) for pin in pins}
        assert {"numba", "torch", "snntorch", "nir", "pytest", "twine"} <= names
        assert ("lava-nc" in names) == (version == "3.10")
        assert len(names) == len(pins)
    tested = set(re.findall(r"3\.1\d", " ".join(PROJECT["project"]["classifiers"])))
    assert tested == set(VERSIONS)


@pytest.mark.parametrize(("version", "fits"), [("3.13", True), ("3.14", False), ("3.9", False)])
def test_an_environment_of_another_python_is_refused(version, fits, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    done = run([ROOT / "requirements" / "find_python.sh", tmp_path])
    assert (done.returncode == 0) == fits
    refusal = f"'{tmp_path}' holds Python {version}; expected 3.10, 3.11, 3.12 or 3.13. Remove it"
    assert done.stdout.strip() == str(python) if fits else refusal in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of BIRIL_WHEEL (make release-check), else one that is made here."""
    given = os.environ.get("BIRIL_WHEEL")
    return Path(given) if given else fresh_python.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def python(request, tmp_path):
    """A fresh environment of a Python version."""
    found = fresh_python.find_python(request.param)
    if found is None:
        pytest.skip(f"needs Python {request.param} on the path, or from pyenv")
    if not fresh_python.has_index(found, tmp_path / "download"):
        pytest.skip("needs an index of packages (PyPI or PIP_INDEX_URL)")
    return fresh_python.environment(found, tmp_path / "env")


@pytest.mark.slow
@pytest.mark.parametrize("python", VERSIONS, indirect=True)
def test_the_wheel_works_without_torch(python, wheel, tmp_path):
    """From a .nir file to a bundle and to spikes, in an environment of the light half alone."""
    pip(python, "install", "--quiet", wheel)
    assert "No broken requirements" in pip(python, "check")
    installed = {each["name"].lower() for each in json.loads(pip(python, "list", "--format=json"))}
    assert not installed & NEED_TORCH
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (8, 2, 12)))
    how = ("--dt", "1e-6", "--reset", "zero")
    for words in (
        ("info",),
        ("export", NIR_FILE, *how, "--to", "lava", "-o", "bundle"),
        ("export", NIR_FILE, *how, "--to", "loihi", "-o", "x.loihi.npz"),
        ("sim", "x.loihi.npz", "--spikes", "x.npy", "-o", "run.npz"),
    ):
        done = run([python.with_name("biril"), *words], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle" / "run_lava.py").is_file()
    assert np.load(tmp_path / "run.npz")["3.s"].shape[:2] == (8, 2)
    done = run([python.with_name("biril"), "train"], cwd=tmp_path)
    assert done.returncode == 1 and 'pip install "biril-nm[torch]"' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("python", ["{}.{}".format(*sys.version_info[:2])], indirect=True)
def test_pip_leaves_the_torch_of_a_user_alone(python, wheel, tmp_path):
    pip(
        python,
        "install",
        "--quiet",
        "--no-deps",
        fresh_python.stub_wheel(tmp_path, "torch", "2.3.0"),
    )
    light = [extra for extra in EXTRAS if extra not in OF_TORCH]
    for extras in (light, ["all"]):
        found = fresh_python.would_install(python, tmp_path, f"{wheel}[{','.join(extras)}]")
        assert "biril-nm" in found and "torch" not in found, extras
    (tmp_path / "newer").mkdir()
    older = fresh_python.stub_wheel(tmp_path / "newer", "torch", "2.0.0")
    pip(python, "install", "--quiet", "--no-deps", older)  # the report would show a change
    assert "torch" in fresh_python.would_install(python, tmp_path, f"{wheel}[torch]")
