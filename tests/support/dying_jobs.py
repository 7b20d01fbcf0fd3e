"""Jobs whose worker is killed at the first tries: light, so that a worker starts soon."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DyingJob:
    """A number to square; the worker is killed at the first ``deaths`` tries.

    Attributes:
        folder: where tries are counted.
        number: the number, also the name of its count.
        deaths: tries at which the worker is killed.
    """

    folder: str
    number: int
    deaths: int = 0

    @property
    def tries(self) -> int:
        """How often it was begun."""
        count = Path(self.folder) / str(self.number)
        return count.stat().st_size if count.exists() else 0


def square(job: DyingJob) -> int:
    """What a worker does."""
    with (Path(job.folder) / str(job.number)).open("a") as count:
        count.write("x")
    if job.tries <= job.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return job.number**2


def stay(folder: str) -> None:
    """Leave the number of the worker in a file, and go on for longer than any test waits."""
    part = Path(folder) / "part"
    part.write_text(str(os.getpid()))
    part.rename(Path(folder) / "worker")
    time.sleep(3600)
