"""Feeds workers with seeds, replaces those that die, and keeps the inputs that escaped."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.readers import READERS
from tests.fuzz.worker import prepare

ROOT = Path(__file__).parents[2]
WALL_SECONDS = 120.0  # for what takes no CPU time, such as waiting for a named pipe
START_SECONDS = 900.0  # kernels may have to be compiled, on a machine with other work


@dataclass
class Result:
    """What came of the inputs of one reader.

    Attributes:
        counts: number of inputs by outcome.
        failures: index, why, and the saved input of those that ended in anything else.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, Path | None]] = field(default_factory=list)


class Worker:
    """A process of :mod:`tests.fuzz.worker`."""

    def __init__(self, name: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=env,
            cwd=ROOT,
        )
        if self._line(START_SECONDS) != "ready\n":
            raise RuntimeError(f"the worker of '{name}' does not start: {self.last_words()}")

    def ask(self, seed: int, index: int) -> dict[str, str]:
        """The outcome of one input; a worker that dies or hangs is an outcome too."""
        stdin: Any = self.process.stdin
        stdin.write(f"{seed} {index}\n")
        stdin.flush()
        line = self._line(WALL_SECONDS)
        if not line:
            code = self.process.wait()
            return {"outcome": "died", "why": f"exit status {code}: {self.last_words()}"}
        return dict(json.loads(line))

    def _line(self, seconds: float) -> str:
        stdout: Any = self.process.stdout
        ready, _, _ = select.select([stdout], [], [], seconds)
        if not ready:
            self.process.kill()
            return ""
        return str(stdout.readline())

    def last_words(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-2000:]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def fuzz(
    name: str, seed: int, n_inputs: int, first: int = 0, save_to: Path | None = None
) -> Result:
    """Damage and read ``n_inputs`` files of one kind."""
    result, worker = Result(), Worker(name)
    try:
        for index in range(first, first + n_inputs):
            answer = worker.ask(seed, index)
            result.counts[answer["outcome"]] += 1
            if answer["outcome"] not in ("accepted", "refused"):
                result.failures.append((index, answer["why"], save(name, seed, index, save_to)))
            if worker.process.poll() is not None:
                worker.close()
                worker = Worker(name)
    finally:
        worker.close()
    return result


def save(name: str, seed: int, index: int, folder: Path | None) -> Path | None:
    """Write the input of a seed and an index again, to look at."""
    if folder is None:
        return None
    reader, place = READERS[name], folder / f"{name}-{seed}-{index}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        return prepare(reader, reader.samples(Path(scratch)), place, seed, index)
