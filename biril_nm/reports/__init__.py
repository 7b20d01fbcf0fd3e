"""Reports: what became of a network on the chip, as numbers and as one HTML file."""

from __future__ import annotations

from biril_nm.reports.bits import BitsError
from biril_nm.reports.classes import Classes, Sample
from biril_nm.reports.layers import LayerFit
from biril_nm.reports.making import Report, report

__all__ = ["BitsError", "Classes", "LayerFit", "Report", "Sample", "report"]
