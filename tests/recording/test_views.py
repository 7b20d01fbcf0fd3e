"""Plots, tables and drawings of results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biril_nm.errors import ConfigError, MissingDependencyError, OutputExistsError
from biril_nm.hardware_sim import simulate
from biril_nm.recording import Recording
from tests.support.random_graphs import random_graph, random_spikes

SAMPLE, STEPS, BATCH = 2, 15, 3
HTML, SVG = "_repr_html_", "_repr_svg_"  # that Jupyter calls


@pytest.fixture(scope="module")
def graph() -> Any:
    return random_graph(3)


@pytest.fixture(scope="module")
def recording(graph: Any) -> Recording:
    return simulate(graph, random_spikes(graph, STEPS, BATCH, seed=0), record=("s", "u", "v"))


@pytest.fixture
def plt() -> Iterator[Any]:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_a_raster_has_a_dot_for_each_spike(recording: Recording, plt: Any) -> None:
    axes = recording.plot_raster(SAMPLE)
    dots = np.concatenate([part.get_offsets() for part in axes.collections])
    expected, base = [], 0
    for node in recording.values():
        spikes = node.s[:, SAMPLE].reshape(STEPS, -1)
        expected += [(t, base + i) for t, i in zip(*np.nonzero(spikes))]
        base += spikes.shape[1]
    assert expected
    assert sorted(map(tuple, dots)) == sorted(expected)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(recording)


def test_a_raster_of_some_nodes_on_given_axes(recording: Recording, plt: Any) -> None:
    name = list(recording)[-1]
    _, axes = plt.subplots()
    assert recording.plot_raster(0, nodes=[name], ax=axes) is axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [name]


def test_a_voltage_is_v_of_one_neuron(recording: Recording, plt: Any) -> None:
    for name, node in recording.items():
        index = node.v[0, 0].size - 1
        place = np.unravel_index(index, node.v.shape[2:])
        for neuron in (index, tuple(int(i) for i in place)):
            axes = recording.plot_voltage(name, neuron, SAMPLE)
            line, spikes = axes.lines
            assert np.array_equal(line.get_ydata(), node.v[:, SAMPLE].reshape(STEPS, -1)[:, index])
            fired = np.flatnonzero(node.s[:, SAMPLE].reshape(STEPS, -1)[:, index])
            assert np.array_equal(spikes.get_xdata(), fired)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.plot_raster(BATCH), "sample is 3; expected 0 to 2"),
        (lambda r: r.plot_raster(nodes=["no"]), "s of no was not recorded; expected some of"),
        (lambda r: r.plot_voltage("no"), "v of no was not recorded"),
        (lambda r: r.plot_voltage(next(iter(r)), 10**6), "neuron is 1000000, and"),
        (lambda r: r.plot_voltage(next(iter(r)), -1), "neuron is -1, and"),
        (lambda r: r.to_pandas(["no"]), "nodes are no; expected some that were recorded"),
        (lambda r: r.to_xarray([]), "nodes are none; expected some that were recorded"),
    ],
)
def test_what_was_not_recorded(recording: Recording, call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(recording)


def test_a_table_holds_every_value(recording: Recording) -> None:
    pytest.importorskip("pandas")
    table = recording.to_pandas()
    assert len(table) == sum(node.s.size for node in recording.values())
    for name, node in recording.items():
        for variable in "suv":
            flat = getattr(node, variable).reshape(STEPS, BATCH, -1)
            column = table.loc[name][variable]
            assert column[4, SAMPLE, 0] == flat[4, SAMPLE, 0]
            assert np.array_equal(column.to_numpy(), flat.ravel())
    one = recording.to_pandas([name])
    assert list(one.index.get_level_values("node").unique()) == [name]


def test_a_data_set_holds_every_value(recording: Recording) -> None:
    pytest.importorskip("xarray")
    found = recording.to_xarray()
    for name, node in recording.items():
        assert np.array_equal(found[f"{name}.v"].sel(step=3, sample=1), node.v[3, 1])
    assert found.sizes["step"] == STEPS
    assert found.sizes["sample"] == BATCH


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("matplotlib", lambda r: r.plot_raster()),
        ("pandas", lambda r: r.to_pandas()),
        ("xarray", lambda r: r.to_xarray()),
    ],
)
def test_a_missing_package(
    recording: Recording, package: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"'{package}' is needed to"):
        call(recording)


def test_a_drawing_names_every_node(graph: Any, tmp_path: Path) -> None:
    first = next(iter(graph.neurons))
    for tall in (None, True, False):
        drawing = graph.draw({first: 0.3}, tall=tall)
        assert getattr(drawing, SVG)().startswith("<svg xmlns=")
        for name in graph.neurons:
            assert name in drawing.svg
    assert drawing.svg != graph.draw(tall=False).svg  # the rate shows
    drawing.save(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == drawing.svg
    with pytest.raises(OutputExistsError):
        drawing.save(tmp_path / "net.svg")
    with pytest.raises(ConfigError, match="expected a name that ends in .svg"):
        drawing.save(tmp_path / "net.txt")
    with pytest.raises(ConfigError, match="rates name nobody; expected names of inputs"):
        graph.draw({"nobody": 1.0})
