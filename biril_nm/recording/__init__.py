"""What a run recorded: spikes, states and learning variables, in memory or in a folder."""

from __future__ import annotations

from biril_nm.recording.recording import (
    LEARNING_VARIABLES,
    VARIABLES,
    ConnectionTrace,
    NodeTrace,
    Trace,
    check_variables,
    split_variables,
)

__all__ = [
    "LEARNING_VARIABLES",
    "VARIABLES",
    "ConnectionTrace",
    "NodeTrace",
    "Trace",
    "check_variables",
    "split_variables",
]
