"""The documentation site: a page for every public name, command and setting, and a build without warnings."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

import biril_nm
from biril_nm.cli import app
from tests.support.browser import needs_browser, probe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] != "reference"]
# Packages of parts that are run, not imported: subcommands, and the scripts of a Lava bundle.
NOT_IMPORTED = ("biril_nm.commands", "biril_nm.export.lava.bundle")


@pytest.fixture(scope="module")
def site():
    """The modules of docs/site."""
    sys.path.insert(0, str(DOCS / "site"))
    try:
        yield {name: importlib.import_module(name) for name in ("api", "reference")}
    finally:
        sys.path.remove(str(DOCS / "site"))


def public_packages() -> list[str]:
    """Packages that list public names."""
    walked = pkgutil.walk_packages(biril_nm.__path__, "biril_nm.")
    names = [each.name for each in walked if each.ispkg and each.name not in NOT_IMPORTED]
    return [
        name
        for name in ("biril_nm", *names)
        if getattr(importlib.import_module(name), "__all__", ())
    ]


def imported(text: str) -> set[str]:
    """Modules of the package that a text imports something from."""
    return set(re.findall(r"^\s*(?:from|import) (biril_nm[\w.]*)", text, re.MULTILINE))


def notebook_code(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def test_every_public_package_has_a_page(site):
    assert set(public_packages()) <= set(site["api"].modules())


def test_every_public_name_has_an_entry(site):
    api = site["api"]
    pages = api.pages()
    for module in api.modules():
        loaded, text = importlib.import_module(module), pages[f"{module}.rst"]
        for name in getattr(loaded, "__all__", ()):
            if isinstance(getattr(loaded, name), ModuleType):
                assert f"<{module}.{name}>" in text
            elif api.home(module, name) == module:
                assert re.search(rf":: (?:{re.escape(module)}\.)?{name}$", text, re.MULTILINE), name
            else:
                assert f"<{api.home(module, name)}.{name}>" in text
        assert module in pages["index.rst"]
    assert f"{biril_nm.__name__}.LoihiGraph" in pages["biril_nm.rst"]


def test_every_public_name_is_explained(site):
    api, unexplained = site["api"], []
    for module in api.modules():
        loaded = importlib.import_module(module)
        for name in loaded.__all__ if hasattr(loaded, "__all__") else ():
            value = getattr(loaded, name)
            text = "a module" if isinstance(value, ModuleType) else api.sentence(module, name)
            signature = f"{name}("  # what a dataclass without a docstring has
            if len(text.split()) < 2 or text.startswith(("Source", signature)):
                unexplained.append(f"{module}.{name}: {text!r}")
    assert not unexplained, "a comment on the line of a constant, or above it, says what it is"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("SIZE = 3  # bits of a weight", "bits of a weight"),
        ("# Kinds of\n# coding.\nSIZE: int = 3", "Kinds of coding."),
        ("# Kinds of coding.\nSIZE = (\n    3,\n)  # fmt: skip", "Kinds of coding."),
        ("# --- sizes ---\nSIZE = 3", ""),
        ("SIZE = 3  # noqa: E501", ""),
        ("# of something else\nOTHER = 3\nSIZE = 3", ""),
        ("SIZE = list[int]  # some numbers", "some numbers"),
    ],
)
def test_comments_explain_constants(site, tmp_path, monkeypatch, source, text):
    (tmp_path / "constants_of_a_test.py").write_text(source + "\n", encoding="utf-8")
    (tmp_path / "takes_constants.py").write_text("from constants_of_a_test import SIZE\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    api = site["api"]
    try:
        for module in ("constants_of_a_test", "takes_constants"):
            assert api.sentence(module, "SIZE") == text
            shown = "\n".join(api.constant(module, "SIZE", importlib.import_module(module).SIZE))
            assert text.strip(".").lower() in shown.lower()
    finally:
        for module in ("constants_of_a_test", "takes_constants"):
            sys.modules.pop(module, None)
        api.assignments.cache_clear()
        api.imported.cache_clear()


def test_what_the_pages_import_has_a_page(site):
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *ROOT.glob("[!C]*.md")]]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py")]
    texts += [notebook_code(path) for path in (DOCS / "tutorials").glob("*.ipynb")]
    used = set().union(*map(imported, texts))
    assert len(used) > 15
    assert used <= set(site["api"].modules())


def test_names_with_two_homes_lead_to_one_entry(site):
    aliases = site["api"].aliases()
    assert aliases["biril_nm.hw_graph.LoihiGraph"] == "biril_nm.LoihiGraph"
    assert aliases["biril_nm.hw_graph.graph.LoihiGraph"] == "biril_nm.LoihiGraph"
    assert not set(aliases) & set(aliases.values())


def docstrings(module: ModuleType) -> Iterator[str]:
    """Those that the page of a module shows."""
    yield module.__doc__ or ""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            yield value.__doc__ or ""
        if inspect.isclass(value):
            yield from (inspect.getdoc(each) or "" for each in vars(value).values())


def test_modules_and_functions_that_docstrings_name_have_a_page(site):
    known, aliases = set(site["api"].modules()), site["api"].aliases()
    for module in known:
        for text in docstrings(importlib.import_module(module)):
            for role, name in re.findall(r":(mod|func|meth|data):`~?(biril_nm[\w.]+)`", text):
                parent = name.rpartition(".")[0]
                homes = {name} if role == "mod" else {parent, parent.rpartition(".")[0]}
                assert homes & known or {name, parent} & set(aliases), f"{module} names {name}"


def test_every_command_and_option_has_a_row(site):
    text = site["reference"].command_line_page()
    for command in app.registered_commands:
        section = text.partition(f"## biril {command.name}\n")[2].partition("\n## ")[0]
        rows = list(site["reference"].options(command.callback))
        assert rows
        for shown, kind, _, words in rows:
            assert f"| {shown.replace('|', chr(92) + '|')} |" in section
            assert kind and words, f"{command.name} {shown} has no help text"
    assert "| `--dt` | number |" in text
    assert "```bash\nbiril export " in text


def test_every_setting_has_a_row_that_says_what_it_is(site):
    reference = site["reference"]
    text = reference.configuration_page()
    for config in reference.CONFIGURATIONS:
        section = text.partition(f"## {config.__name__}\n")[2].partition("\n## ")[0]
        for field in fields(config):
            row = re.search(rf"^\| `{field.name}` \|.*\| ([^|]+) \|$", section, re.MULTILINE)
            assert row and row.group(1).strip(), f"{config.__name__}.{field.name} is not explained"


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^(?:[^`#\n]+ <)?([\w/]+)>?$", index, re.MULTILINE))
    pages = [*PAGES, *(DOCS / "tutorials").glob("*.ipynb")]
    names = {str(path.relative_to(DOCS).with_suffix("")) for path in pages} - {"index"}
    generated = {name for name in listed if name.startswith("reference/")}
    assert names == listed - generated
    assert len(generated) == 4


@pytest.mark.parametrize("page", sorted((DOCS / "concepts").glob("*.md")), ids=lambda p: p.stem)
def test_concepts_run(page):
    space: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page.name, "exec"), space)


def inventory(path: Path) -> dict[str, str]:
    """Name -> page, from the file by which other sites find names."""
    data = path.read_bytes().split(b"\n", 4)[4]
    rows = (line.split(" ") for line in zlib.decompress(data).decode().splitlines())
    return {row[0]: row[3].replace("$", row[0]) for row in rows if row[1].startswith("py:")}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, without running the notebooks, which test_tutorials does."""
    for package in ("furo", "myst_nb"):
        pytest.importorskip(package, reason='pip install "biril-nm[docs]" brings it')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-D", "nb_execution_mode=off"]
    done = subprocess.run(
        [*command, "-d", str(folder / "trees"), str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_the_site_builds_without_warnings(built, site):
    known = inventory(built / "objects.inv")
    for module in public_packages():
        for name in importlib.import_module(module).__all__:
            entry = known[f"{module}.{name}"]
            assert (built / entry.partition("#")[0]).is_file()
    for path in built.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//", text), path
        assert "flowchart LR" not in text or path.stem in ("changelog", "contributing")
    assert '<svg class="flowchart"' in (built / "index.html").read_text("utf-8")


# How wide the page is beyond the screen; what sticks out and does not scroll; pictures that are seen.
PROBE = """
const box = e => e.getBoundingClientRect(), text = document.querySelector("article");
const scrolls = e => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
const wide = [...text.querySelectorAll("*")].filter(e => box(e).width > 0 && !scrolls(e))
  .filter(e => box(e).right > innerWidth + 1 || box(e).left < -1);
const charts = [...document.querySelectorAll("svg.flowchart")].filter(e => box(e).width > 0);
return {beyond: document.documentElement.scrollWidth - innerWidth,
  wide: wide.map(e => e.tagName + "." + e.textContent.slice(0, 20)), charts: charts.map(e => box(e).width),
  screen: innerWidth};
"""


@needs_browser
def test_what_is_wider_than_the_screen_is_found(tmp_path):
    """In a window of this width, and not in one of Chromium's smallest width, 500."""
    page = tmp_path / "page.html"
    wide = '<p style="width: 450px">wide</p>'
    page.write_text(f"<html><body><article>{wide}</article></body></html>", encoding="utf-8")
    found = probe(page, tmp_path, 390, PROBE)
    assert found["screen"] == 390 and found["beyond"] > 50 and found["wide"] == ["P.wide"]
    scrolled = f'<div style="overflow-x: auto">{wide}</div>'
    page.write_text(f"<html><body><article>{scrolled}</article></body></html>", encoding="utf-8")
    found = probe(page, tmp_path, 390, PROBE)
    assert found["beyond"] == 0 and found["wide"] == []


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize(
    "page",
    [
        "index",
        "tutorials/own_network",
        "results",
        "reference/api/biril_nm",
        "reference/command_line",
    ],
)
def test_pages_fit_the_screen(built, tmp_path, page, width):
    found = probe(built / f"{page}.html", tmp_path, width, PROBE)
    assert found["screen"] == width
    assert found["beyond"] <= 0 and found["wide"] == []
    if page == "index":
        (chart,) = found["charts"]  # one of the two pictures, whole
        assert 0.5 * min(width, 700) < chart < width


def test_flowcharts_are_drawn_and_refused():
    pytest.importorskip("docutils", reason='pip install "biril-nm[docs]" brings it')
    spec = importlib.util.spec_from_file_location("flowcharts", DOCS / "site" / "flowcharts.py")
    flowcharts = importlib.util.module_from_spec(spec)
    sys.modules["flowcharts"] = flowcharts
    spec.loader.exec_module(flowcharts)
    chart = flowcharts.parse(
        'flowchart LR\n  A["one<br>two"] -->|to| B\n  A --> C\n  B --> C\n  B <--> D'
    )
    assert chart.labels == {"A": ["one", "two"], "B": ["B"], "C": ["C"], "D": ["D"]}
    assert chart.edges[0] == ("A", "B", "to", False)
    assert chart.edges[-1] == ("B", "D", "", True)
    assert chart.rows["C"] > chart.rows["B"] > chart.rows["A"]
    picture = flowcharts.svg(chart)
    assert picture.count("<rect") == 4 and picture.count('marker-end="url(#arrow)"') == 4
    assert ">one</text>" in picture and ">to</text>" in picture
    frame = flowcharts.frame(chart)
    assert frame.count("<svg") == 2 and frame.count('marker-end="url(#arrow-down)"') == 4
    assert flowcharts.frame(flowcharts.parse("flowchart TD\n  A --> B")).count("<svg") == 1
    with pytest.raises(ValueError, match="'A{choice}' is not a node of a flowchart"):
        flowcharts.parse("flowchart TD\n  A{choice} --> B")
    for page in [*PAGES, ROOT / "README.md"]:
        for text in re.findall(r"```mermaid\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            assert "<rect" in flowcharts.svg(flowcharts.parse(text))
