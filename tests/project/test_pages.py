"""Pages say what is: generated parts are current, links and file names lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

import biril_nm

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/concepts").glob("*.md")]
)
CHANGELOG = ROOT / "CHANGELOG.md"
OLD_NAMES = (ROOT / "tests/golden/modules_of_0_1_0.txt").read_text(encoding="utf-8").split()
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CODE_SUFFIXES = (".py", ".md", ".toml", ".yml", ".html")


@cache
def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_architecture_page_is_current():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert script("make_architecture").with_floors(text) == text, "run: make pages"


def test_the_tables_of_data_sets_and_recipes_are_current():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert script("make_data").with_tables(text) == text, "run: make pages"
    assert "`cifar10`" in text and "`crop:4`" in text


def test_the_picture_follows_the_imports():
    draw = script("make_architecture")
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert draw.heights(graph) == {"c": 0, "b": 1, "a": 2}
    assert draw.without_detours(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}
    found = draw.folders()
    assert {"export", "hardware_sim", "hw_graph"} <= set(found)
    assert "hw_graph" in found["export"]


def test_the_list_of_moved_modules_is_current():
    text = CHANGELOG.read_text(encoding="utf-8")
    assert script("make_moved").with_moved(text) == text, "run: make pages"
    assert all(f"`{old}`" in text for old in OLD_NAMES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    """Paths such as `biril_nm/loihi/cores.py`; the changelog may name files of the past."""
    if page == CHANGELOG:
        return
    for name in re.findall(r"`([\w./-]+/[\w.-]*)`", page.read_text(encoding="utf-8")):
        top = name.split("/")[0]
        if (
            top != "out"
            and (ROOT / top).is_dir()
            and (name.endswith("/") or name.endswith(CODE_SUFFIXES))
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {biril_nm.__version__}\n" in text
    assert f"[{biril_nm.__version__}]" in CHANGELOG.read_text(encoding="utf-8")
