"""The tables of supported nodes come from the code, and the documentation is up to date."""

from __future__ import annotations

from pathlib import Path

import nir

from biril_nm.export.from_torch.layers import LAYER_MAP, VANISHING
from biril_nm.export.from_torch.neurons import NEURONS
from biril_nm.export.supported import POLICIES, _rows, policy_table, supported_nodes

DOCS = Path(__file__).parents[2] / "docs"


def test_every_nir_node_has_a_policy():
    kinds = {
        name
        for name in dir(nir.ir)
        if isinstance(getattr(nir.ir, name), type)
        and issubclass(getattr(nir.ir, name), nir.NIRNode)
    } - {"NIRNode"}
    assert len(kinds) >= 18
    assert kinds <= {name for side, name, _, _ in _rows() if side == "NIR"}
    torch_side = {
        name for side, name, policy, _ in _rows() if side != "NIR" and policy != "refused"
    }
    assert torch_side == {kind.__name__ for kind in (*LAYER_MAP, *VANISHING, *NEURONS)}
    assert {policy for _, _, policy, _ in _rows()} == set(POLICIES)
    assert "MaxPool2d" not in {name for _, name, _ in supported_nodes()}


def test_the_documented_table_is_the_generated_one():
    written = (DOCS / "supported_nodes.md").read_text(encoding="utf-8")
    assert written == policy_table(), "run: python docs/make_tables.py"
