"""The worked examples of CONTRIBUTING.md run, each section in a namespace of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from biril_nm.compartments import COMPARTMENTS, unregister
from biril_nm.data.datasets import DATASETS
from biril_nm.export.backends import BACKENDS
from biril_nm.export.from_torch.layers import LAYERS
from biril_nm.export.from_torch.registry import MODULES
from biril_nm.export.nir_nodes.registry import NODE_KINDS
from biril_nm.export.nir_nodes.stateless import STATELESS
from biril_nm.learning.rules import RULES
from biril_nm.models.registry import MODELS
from biril_nm.neurons.surrogates import SURROGATES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (Add [^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
REGISTRIES = (
    BACKENDS.registered, BACKENDS.origins, DATASETS, LAYERS, MODELS, MODULES, NODE_KINDS, RULES,
    STATELESS, SURROGATES,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _registries_as_before():
    before = [dict(registry) for registry in REGISTRIES]
    models = set(COMPARTMENTS)
    yield
    for name in set(COMPARTMENTS) - models:
        unregister(name)
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_there_is_an_example_for_each_kind():
    kinds = "compartment, rule, surrogate, architecture, data set, back end, NIR node, torch layer"
    for kind in kinds.split(", "):
        assert any(kind in title for title in SECTIONS), kind


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_runs(title, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[title], re.S)
    assert blocks, title
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": __name__}
    for block in blocks:
        exec(compile(block, f"CONTRIBUTING.md: {title}", "exec"), names)


@pytest.mark.parametrize("name", re.findall(r"^# ([\w/]+\.py)$", TEXT, re.M))
def test_files_of_the_examples_belong_to_a_folder(name):
    assert (ROOT / name).parent.is_dir()
