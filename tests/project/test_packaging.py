"""The wheel holds every package, and works from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.fresh_python import build_wheel
from tests.support.sources import LINKS, PROJECT, ROOT


def _found_packages() -> set[str]:
    found = {"biril_nm"}
    for folder in ("biril_nm", *LINKS):
        prefix = "biril_nm" if folder == "biril_nm" else f"biril_nm.{folder}"
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            if folder == "biril_nm" and parts and parts[0] in LINKS:
                continue
            found.add(".".join((prefix, *parts)))
    return found


def test_the_package_list_is_complete():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == _found_packages()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_one_top_level_name_and_all_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"biril_nm"}
    for wanted in (
        "py.typed", "export/report/report.html", "export/lava/bundle/run_lava.py", "recipes/mnist.toml",
        "export/supported.json",
    ):  # fmt: skip
        assert f"biril_nm/{wanted}" in names


@pytest.mark.slow  # make release-check runs it
def test_the_installed_wheel_runs_the_command_line_elsewhere(wheel, tmp_path):
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)  # all that an installation without scripts is
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import biril_nm; "
        f"assert biril_nm.__file__.startswith({str(target)!r}), biril_nm.__file__; "
        "from biril_nm.cli import main, export_main; "
    )
    for call, wanted in (
        ("sys.argv = ['biril', 'info']; main()", "supported nodes"),
        ("sys.argv = ['biril-export', '--help']; export_main()", "--to"),
        (
            "from biril_nm.recipes import recipe_names; sys.stdout.write(' '.join(recipe_names()))",
            "mnist",
        ),
    ):
        run = [sys.executable, "-c", code + call]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout
