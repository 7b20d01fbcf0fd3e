"""TensorBoard events, written by the training itself: no thread that can fail on its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["EventFile", "remove_events"]

PREFIX = "events.out.tfevents."  # of all names of event files
VERSION = "brain.Event:2"  # what TensorBoard's readers expect first


class EventFile:
    """Scalars of one run, as TensorBoard reads them.

    Args:
        folder: where the file goes.
        purge_step: hide scalars of earlier files from this step on.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"{PREFIX}{int(time.time())}.{socket.gethostname()}.{os.getpid()}.0"
        self._events: Any = event_pb2
        self._writer = RecordWriter((folder / name).open("ab"))
        self._write(file_version=VERSION)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=purge_step, session_log=start)
        self._writer.flush()

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write scalars of one step and flush.

        Raises:
            OSError: the disk is full.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(step=step, summary=Summary(value=values))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())


def remove_events(folder: Path) -> None:
    """Remove the event files of a folder, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
