"""One self-contained HTML page about a network."""

from __future__ import annotations

from biril_nm.export.report.page import Card, Extra, Section, Table, write_report

__all__ = ["Card", "Extra", "Section", "Table", "write_report"]
