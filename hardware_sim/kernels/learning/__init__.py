"""Compiled loops of connections that learn."""
