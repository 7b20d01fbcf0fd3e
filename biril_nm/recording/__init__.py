"""What a run recorded: spikes, states and learning variables, in memory or in a folder."""

from __future__ import annotations

from biril_nm._moved import renamed
from biril_nm.recording.joined import joined
from biril_nm.recording.recording import (
    LEARNING_VARIABLES,
    VARIABLES,
    ConnectionRecording,
    NodeRecording,
    Recording,
    check_variables,
    recorded_nodes,
    split_variables,
)

__all__ = [
    "LEARNING_VARIABLES",
    "VARIABLES",
    "ConnectionRecording",
    "NodeRecording",
    "Recording",
    "check_variables",
    "joined",
    "recorded_nodes",
    "split_variables",
]

__getattr__ = renamed(
    __name__,
    {"ConnectionTrace": ConnectionRecording, "NodeTrace": NodeRecording, "Trace": Recording},
)
