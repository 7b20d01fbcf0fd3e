"""Passes: pure functions from one stage of the export to the next."""
