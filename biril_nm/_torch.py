"""Packages made of torch import this first: without torch it raises one error, with what to install."""

from __future__ import annotations

from biril_nm.optional import library

for _name in ("torch", "snntorch"):
    library(_name, "torch", "train, load and export networks of torch")
