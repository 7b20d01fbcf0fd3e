"""Environments of every Python that is here, made anew, and an index of packages to fill them from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biril_nm.export.lava.interpreters import clean_environment

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ROOT = Path(__file__).parents[2]


def find_python(version: str) -> str | None:
    """A Python of this version: this one, one on the path, or pyenv's."""
    if version == "{}.{}".format(*sys.version_info[:2]):
        return sys.executable
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [shutil.which(f"python{version}"), *folder.glob(f"{version}.*/bin/python")]
    for place in places:
        if place is not None and run([place, "-c", "import venv, ensurepip"]).returncode == 0:
            return str(place)
    return None


def run(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """A command without what leads Python to packages of this environment."""
    words = list(map(str, command))
    settings = {"env": {**clean_environment(), "PYTHONNOUSERSITE": "1"}, **options}
    return subprocess.run(words, capture_output=True, text=True, check=False, **settings)


def environment(python: str, folder: Path) -> Path:
    """A new environment; the path of its Python."""
    made = run([python, "-m", "venv", folder])
    assert made.returncode == 0, made.stderr
    return folder / "bin" / "python"


def pip(python: Path, *words: object) -> str:
    """What pip prints; it must do what was asked."""
    done = run([python, "-m", "pip", "--disable-pip-version-check", *words])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def has_index(python: str, folder: Path) -> bool:
    """Whether packages can be installed: a small one is downloaded."""
    words = ("download", "--quiet", "--no-deps", "--dest", folder, "tomli-w")
    return run([python, "-m", "pip", "--retries", "1", *words]).returncode == 0


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, made by the setuptools that is installed."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", folder, ROOT], check=True, capture_output=True)
    return next(folder.glob("biril_nm-*.whl"))


def stub_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel that holds nothing but its name: a package that the user has installed."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def would_install(python: Path, folder: Path, *what: object) -> dict[str, str]:
    """Name -> version of what pip would install, or put in place of another version."""
    report = folder / "report.json"
    pip(python, "install", "--quiet", "--dry-run", "--report", report, *what)
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in found}
