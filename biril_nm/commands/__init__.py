"""Subcommands of ``biril``, one a file; each is a thin function over the public API."""
