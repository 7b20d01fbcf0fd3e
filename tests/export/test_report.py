"""The HTML report: one file, complete, and readable in a browser on desktop and phone."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import escape
from itertools import pairwise

import numpy as np
import pytest

from biril_nm.engines import get_engine
from biril_nm.engines.registry import ENGINES
from biril_nm.errors import MissingDependencyError, OutputExistsError
from biril_nm.export.report.drawings import Tile, cores_svg, network_svg, shortened
from biril_nm.export.report.page import Card, Extra, Section, Table, write_report
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.table import summary_html
from biril_nm.learning import rules
from biril_nm.parity import check_parity
from biril_nm.reports.chip import chip_parts, parity_card
from tests.support.browser import browse, needs_browser, probe
from tests.support.random_graphs import random_graph

pytest.importorskip("jinja2", reason='needs pip install "biril-nm[report]"')
pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')


@pytest.fixture(scope="module")
def graph():
    r = np.random.default_rng(0)
    nodes = {
        "input": Input((1, 8, 8)),
        "conv1": Conv(2 * r.integers(-20, 40, (4, 1, 3, 3)), padding=1),
        "lif1": Neurons((4, 8, 8), vth=150),
        "fc1": Dense(2 * r.integers(-20, 24, (10, 256))),
        "lif2": Neurons((10,), vth=300),
        "output": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)), {"source": "<tiny> & co"})


@pytest.fixture(scope="module")
def page(graph, tmp_path_factory):
    inputs = (np.random.default_rng(1).random((6, 5, 1, 8, 8)) < 0.3).astype(np.int32)
    trace = simulate(graph, inputs, record=("s", "v"))
    assert all(count > 0 for count in trace.n_spikes.values())
    cards, sections = chip_parts(graph, trace, inputs, "loihi1")
    path = tmp_path_factory.mktemp("report") / "report.html"
    cards.append(Card("parity of sim, lava", "different", "lif1: v differs", ok=False))
    return write_report(path, graph, trace, extra=Extra(cards=cards, sections=sections))


def test_the_report_is_one_file_with_all_parts(page, graph):
    text = page.read_text(encoding="utf-8")
    for wanted in (
        "Network", "Activity", "Mapping", "Energy", "NeuroBench metrics", "Lowering to integers",
        "modelled", "Davies et al.", "synaptic operations", "membrane updates", "lif1: v differs",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "http://" not in text and "https://" not in text
    assert "&lt;tiny&gt; &amp; co" in text and "<tiny>" not in text
    assert text.count("<svg") == 3  # the network, wide and tall, and the cores
    for name in (*graph.neurons, *graph.connections):
        assert name in text


@pytest.mark.parametrize(
    ("package", "purpose"),
    [("jinja2", "write HTML reports"), ("matplotlib.figure", "draw figures")],
)
def test_a_missing_package_is_reported(graph, tmp_path, monkeypatch, package, purpose):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{purpose}.*biril-nm\[report\]"):
        write_report(tmp_path / "r.html", graph)
    assert not (tmp_path / "r.html").exists()


def test_the_report_is_not_overwritten(page, graph):
    with pytest.raises(OutputExistsError, match="--force|force"):
        write_report(page, graph)


def test_sections_of_other_stages_are_escaped_and_drawn(graph, tmp_path):
    table = Table(("a <b>", ""), [("x & y", 0.25)], "caption")
    section = Section("Part", "note", legend=[("#fff", "white")], tables=[table], warnings=["<w>"])
    text = write_report(tmp_path / "r.html", graph, extra=Extra(sections=[section])).read_text()
    assert "a &lt;b&gt;" in text and "x &amp; y" in text and "&lt;w&gt;" in text
    assert 'style="width: 25.0%"' in text


HOSTILE = (
    "in",
    '<script>document.title = "broken"</script>',
    'it\'s "quoted" & <b>bold</b>',
    "層①·ñandú\N{EM DASH}\N{BRAIN}слой",
    "backbone.stage4.block17.conv3x3_depthwise_separable.normalised.leaky_integrate_and_fire",
    r"$\frac{$",
    "{{ 7 * 7 }}%s",
)


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """A report of a network whose names are markup, formulas, very long and of other scripts."""
    r = np.random.default_rng(0)
    kinds = (
        Input((16,)),
        *(
            node
            for _ in range(3)
            for node in (Dense(2 * r.integers(-20, 30, (16, 16))), Neurons((16,), vth=100))
        ),
    )
    names = (*HOSTILE, "output")
    nodes = dict(zip(names, (*kinds, Output())))
    notes = ["<i>chosen</i> by the user"]
    graph = LoihiGraph(nodes, tuple(pairwise(names)), {"source": HOSTILE[1], "notes": notes})
    inputs = (r.random((6, 3, 16)) < 0.5).astype(np.int32)
    trace = simulate(graph, inputs, record=("s", "v"))
    cards, sections = chip_parts(graph, trace, inputs, "loihi2")
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    return write_report(path, graph, trace, extra=Extra(cards=cards, sections=sections))


def test_hostile_names_are_text(hostile_page):
    text = hostile_page.read_text(encoding="utf-8")
    assert "<script" not in text and "<b>" not in text and "<i>chosen" not in text
    assert "{{ 7 * 7 }}%s" in text and "&lt;i&gt;chosen" in text
    assert all(escape(name) in text or escape(name).replace("&#x27;", "&#39;") in text
               for name in HOSTILE)  # fmt: skip


def test_long_and_wide_names_are_cut_to_columns():
    assert shortened("layer0.0.lif1", 13) == "layer0.0.lif1"
    assert shortened("layer0.0.downsample", 13) == "layer0.0.dow…"
    assert shortened("層層層層層層層", 13) == "層層層層層層…"


def test_numbers_stand_at_the_right_and_text_at_the_left():
    rows = [("a", "1,024 (25%)", "7.23 µJ", "-3", "x"), ("b", "-", "12 pJ", "1.5%", "2")]
    assert Table("abcde", rows).numeric == [False, True, True, True, False]
    assert Table("ab", []).numeric == [False, True]
    assert Table("ab", [("n" * 80, "1")]).layout == "plain"
    assert Table("ab", [("n", "w" * 80)]).layout == "prose"
    assert Table("ab", [("n", 0.5)]).layout == "bars"


def test_learning_rules_are_shown(graph, tmp_path):
    plastic = graph.with_node("fc1", rule=rules.DELTA, modulators={"y2": "lif2", "y3": "lif2"})
    text = write_report(tmp_path / "r.html", plastic).read_text()
    assert "Learning on the chip" in text and "delta" in text and "y2 = lif2, y3 = lif2" in text
    assert "Learning on the chip" not in write_report(tmp_path / "s.html", graph).read_text()


def test_choices_that_change_the_meaning_are_shown(graph, tmp_path):
    facts = {"lif1": {"reset": "zero", "from": "forced"}, "lif2": {"reset": "zero", "from": "file"}}
    chosen = graph.with_metadata(reset=facts, dt_s=1e-4, chip="loihi1")
    text = write_report(tmp_path / "r.html", chosen).read_text()
    assert "lif1: zero (forced)" in text and "0.1 ms" in text and "loihi1" in text
    assert "lif2: zero" not in text


@pytest.mark.parametrize("wiring", ["plain", "residual", "self", "loop", "inputs"])
@pytest.mark.parametrize("tall", [False, True])
def test_drawings_are_valid_and_hold_every_node(wiring, tall):
    graph = random_graph(1, wiring)
    root = ET.fromstring(network_svg(graph, {"n1": 0.5, "n2": 0.0}, tall))
    width, height = (float(n) for n in root.get("viewBox").split()[2:])
    titles = " ".join(t.text for t in root.iter("title"))
    assert all(name in titles for name in (*graph.inputs, *graph.neurons, *graph.connections))
    ends = {p.get("marker-end") for p in root.iter("path") if p.get("marker-end")}
    assert ends == {f"url(#{next(root.iter('marker')).get('id')})"}
    boxes = [(float(r.get("x")), float(r.get("y"))) for r in root.iter("rect")]
    assert len(boxes) == len(set(boxes)) == len(graph.inputs) + len(graph.neurons)
    assert all(0 <= x < width and 0 <= y < height for x, y in boxes)


def test_cores_are_drawn_full_and_empty():
    root = ET.fromstring(cores_svg([Tile((("a", 1.0), ("b", 0.0)), "a, b")], ["a", "b"], 8))
    assert len(list(root.iter("rect"))) == 8 + 2
    assert "core 0: a, b" in [t.text for t in root.iter("title")]


def test_a_parity_verdict_is_a_card(graph, monkeypatch):
    monkeypatch.setitem(ENGINES.registered, "lava", replace(get_engine("sim"), name="lava"))
    inputs = np.ones((3, 2, 1, 8, 8), dtype=np.int32)
    card = parity_card(check_parity(graph, inputs))
    assert card.ok and card.value == "equal" and "sim = lava" in card.note


@needs_browser
@pytest.mark.parametrize("width", [pytest.param(1200, marks=pytest.mark.slow), 390])
def test_nothing_is_wider_than_the_screen_with_any_names(hostile_page, tmp_path, width):
    script = (
        "return [document.documentElement.scrollWidth, innerWidth, "
        "document.images.length, [...document.images].every(i => i.naturalWidth > 99)]"
    )
    needed, there, n_images, drawn = probe(hostile_page, tmp_path, width, script)
    assert needed <= there == width and n_images == 2 and drawn is True


@needs_browser
@pytest.mark.parametrize(
    ("width", "height"), [(1000, 1200), pytest.param(390, 1200, marks=pytest.mark.slow)]
)
def test_a_browser_shows_the_report(page, tmp_path, width, height):
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    browse(page, tmp_path, width, height, f"--screenshot={shot}")
    picture = imread(shot)[..., :3]
    assert picture.shape == (height, width, 3)
    grey = picture.mean(axis=2)
    rows = (grey < 0.6).any(axis=1)  # rows of the page with ink
    assert 0.25 < rows.mean() < 1
    thirds = np.array_split(grey, 3)
    assert all((part < 0.6).mean() > 0.003 for part in thirds)  # ink in every third of the page
    right = grey[:, -8:]
    assert (right > 0.9).mean() > 0.98  # nothing is cut off at the right
    colourful = np.ptp(picture, axis=2) > 0.25
    assert colourful.mean() > 0.0005  # verdicts, links, bars


def test_control_characters_of_names_stay_out_of_the_page(tmp_path):
    r"""Neither \x1b nor marks that turn the order of letters: in tables, titles, drawings, facts."""
    name = "a\x1b[2J\x01\x07b\N{RIGHT-TO-LEFT OVERRIDE}c\nd"
    nodes = {
        "in": Input((6,)),
        f"{name}fc": Dense(np.full((4, 6), 40)),
        name: Neurons((4,), vth=60),
        "out": Output(),
    }
    names = list(nodes)
    graph = LoihiGraph(nodes, tuple(pairwise(names)), {"source": name, "notes": [name]})
    shown = r"a\x1b[2J\x01\x07b\u202ec\nd"
    text = write_report(tmp_path / "r.html", graph).read_text(encoding="utf-8")
    for made in (text, graph.draw().svg, summary_html(graph), graph.summary()):
        assert shown in made
        assert all(c.isprintable() or c == "\n" for c in made)
