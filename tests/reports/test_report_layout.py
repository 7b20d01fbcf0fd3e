"""The report in a browser: no element leaves its place on a wide screen or a phone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import biril_nm as bnm
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from tests.support.browser import needs_browser, probe

pytest.importorskip("jinja2", reason='needs pip install "biril-nm[report]"')
pytest.importorskip("matplotlib", reason='needs pip install "biril-nm[report]"')

# Elements that stick out of the screen, but for what scrolls in its own frame; labels of arrows that touch
# a box; and how much higher the highest card is than the lowest.
PROBE = """
const box = e => e.getBoundingClientRect(), meet = (a, b) =>
  a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const seen = e => box(e).width > 0 && box(e).height > 0;
const found = [...document.body.querySelectorAll("*")].filter(seen);
const wide = found.filter(e => !e.closest(".scroll") || e.className == "scroll")
  .filter(e => box(e).right > innerWidth + 1 || box(e).left < -1)
  .map(e => e.tagName + "." + e.textContent.slice(0, 20));
const rects = [...document.querySelectorAll("svg.net rect")].filter(seen);
const labels = [...document.querySelectorAll("svg.net g")].filter(g => !g.querySelector("rect"))
  .flatMap(g => [...g.querySelectorAll("text")]).filter(seen);
const touching = labels.filter(t => rects.some(r => meet(box(t), box(r)))).map(t => t.textContent);
const inside = [...document.querySelectorAll("svg.net g")].filter(g => g.querySelector("rect")).filter(seen)
  .flatMap(g => [...g.querySelectorAll("text")].filter(t => box(t).left < box(g.querySelector("rect")).left
  || box(t).right > box(g.querySelector("rect")).right).map(t => t.textContent));
const heights = [...document.querySelectorAll(".card")].map(e => box(e).height);
return {screen: innerWidth, wide, touching, inside, labels: labels.length, cards: heights.length,
  high: Math.max(...heights) / Math.min(...heights)};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with all parts: four layers with the names that BatchNorm and pooling leave, 10 classes."""
    r = np.random.default_rng(0)
    nodes = {
        "input": Input((1, 8, 8)),
        "conv1+bn1": Conv(2 * r.integers(-20, 40, (4, 1, 3, 3)), padding=1),
        "if1": Neurons((4, 8, 8), vth=150),
        "pool1+conv2+bn2": Conv(2 * r.integers(-20, 30, (4, 4, 6, 6)), padding=2, stride=2),
        "if2": Neurons((4, 4, 4), vth=900),
        "pool2+fc1+bn3": Dense(2 * r.integers(-20, 24, (128, 64))),
        "if3": Neurons((128,), vth=300),
        "a_long_name_of_a_layer": Dense(2 * r.integers(-20, 24, (10, 128))),
        "if_out": Neurons((10,), vth=300),
        "output": Output(),
    }
    graph = LoihiGraph(nodes, tuple(pairwise(nodes)), {"source": "model.pt"})
    spikes = (r.random((20, 30, 1, 8, 8)) < 0.3).astype(np.int32)
    out = tmp_path_factory.mktemp("layout") / "report.html"
    return bnm.report(graph, spikes, r.integers(0, 10, 30), out=out, against=[]).path


@needs_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_leaves_its_place(page, tmp_path, width):
    found = probe(page, tmp_path, width, PROBE)
    assert found["screen"] == width
    assert found["wide"] == found["touching"] == found["inside"] == []
    assert found["labels"] == 12 and found["cards"] == 4
    assert found["high"] < 2
