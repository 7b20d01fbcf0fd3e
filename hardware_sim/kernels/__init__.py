"""Compiled loops over integers; they know arrays and tuples, no graph."""
