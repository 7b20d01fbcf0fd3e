"""Write the generated pages of docs: python docs/make_tables.py (make pages)."""

from __future__ import annotations

from pathlib import Path

from biril_nm.compartments.table import chips_page, models_page
from biril_nm.export.supported import STORED, policy_table, supported_json

PAGE = Path(__file__).parent / "supported_nodes.md"
COMPARTMENTS = Path(__file__).parent / "compartments.md"
CHIPS = Path(__file__).parent / "chips.md"

if __name__ == "__main__":
    PAGE.write_text(policy_table(), encoding="utf-8")
    STORED.write_text(supported_json(), encoding="utf-8")
    COMPARTMENTS.write_text(models_page(), encoding="utf-8")
    CHIPS.write_text(chips_page(), encoding="utf-8")
