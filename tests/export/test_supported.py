"""The tables of supported nodes come from the records, and the documentation is up to date."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nir
import pytest
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.from_torch import registry
from biril_nm.export.from_torch.kinds import LayerKind, one_of
from biril_nm.export.from_torch.layers import LAYERS
from biril_nm.export.from_torch.neurons import NEURONS
from biril_nm.export.nir_nodes.fixed_map import FixedMap
from biril_nm.export.nir_nodes.registry import NODE_KINDS
from biril_nm.export.supported import (
    POLICIES,
    STORED,
    policy_rows,
    policy_table,
    stored_nodes,
    supported_json,
    supported_nodes,
)

DOCS = Path(__file__).parents[2] / "docs"
# Types of what passes an edge, and shapes that are inferred.
DERIVED = {"input_type", "output_type", "metadata", "input_shape", "nodes", "edges"}


def test_every_nir_node_has_a_record():
    kinds = {
        value
        for value in vars(nir.ir).values()
        if isinstance(value, type) and issubclass(value, nir.NIRNode)
    } - {nir.NIRNode}
    assert len(kinds) >= 18
    assert kinds | {FixedMap} == set(NODE_KINDS)


@pytest.mark.parametrize("kind", NODE_KINDS.values(), ids=lambda kind: kind.name)
def test_a_record_checks_every_field_of_its_node(kind):
    fields = {field.name for field in dataclasses.fields(kind.type)} - DERIVED
    assert set(kind.fields) == fields
    assert kind.becomes and kind.policy in POLICIES


def test_supported_layers_are_those_of_the_records():
    sides = ("torch", "snnTorch")
    rows = {
        name for side, name, policy, _ in policy_rows() if side in sides and policy != "refused"
    }
    assert rows == {kind.name for kind in (*LAYERS.values(), *NEURONS.values())}
    assert {policy for _, _, policy, _ in policy_rows()} == set(POLICIES)
    names = {name for _, name, _ in supported_nodes()}
    assert {"MaxPool2d", "ConvTranspose2d"} <= names and "LayerNorm" not in names


def test_the_documented_table_is_the_generated_one():
    written = (DOCS / "supported_nodes.md").read_text(encoding="utf-8")
    assert written == policy_table(), "run: python docs/make_tables.py"


def test_the_rows_that_info_reads_are_the_current_ones():
    assert STORED.read_text(encoding="utf-8") == supported_json(), "run: python docs/make_tables.py"
    assert stored_nodes() == supported_nodes()


class Doubled(nn.Module):
    """A layer that the export does not know by itself."""

    def __init__(self, mode="plain") -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x):
        return torch.add(x, x) if self.mode == "plain" else x * x


def test_one_record_adds_a_torch_layer(monkeypatch):
    """Its handler, its check, its row in the table and in the list of messages."""
    import numpy as np
    import snntorch

    kind = LayerKind(
        Doubled,
        "Scale by 2",
        fields={"mode": one_of("plain", way_out="Leave mode out")},
        node=lambda layer, name, shape: nir.Scale(scale=np.full(shape, 2.0)),
    )
    monkeypatch.setitem(LAYERS, Doubled, kind)
    monkeypatch.setitem(registry.MODULES, Doubled, kind)
    neurons = snntorch.Leaky(0.5, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    def net(mode):
        return nn.Sequential(nn.Linear(4, 3, bias=False), Doubled(mode), neurons)

    graph = to_nir(net("plain"), torch.zeros(1, 4))
    assert isinstance(graph.nodes["1"], nir.Scale)
    assert set(lower(graph).connections) == {"0+1"}
    assert ("torch", "Doubled", "Scale by 2") in supported_nodes()
    with pytest.raises(UnsupportedNodeError, match="mode is 'odd'; expected 'plain'. Leave mode"):
        to_nir(net("odd"), torch.zeros(1, 4))
    with pytest.raises(UnsupportedNodeError, match="Supported layers: .*Doubled"):
        to_nir(nn.Sequential(nn.Softmax(1), neurons), torch.zeros(1, 4))
