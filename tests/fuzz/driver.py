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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.readers import READERS
from tests.fuzz.worker import prepare

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "tests.fuzz.worker")
WALL_SECONDS = 600.0  # for what takes no CPU time, such as waiting for a named pipe
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
    """A process of :mod:`tests.fuzz.worker`, for one reader after another: what they import is shared."""

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self.program = program
        self._start()

    def _start(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.reader = ""
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            self.program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=env,
            cwd=ROOT,
        )

    def take(self, reader: str) -> None:
        """Go over to a reader, in a new process if the last one ended."""
        if self.process.poll() is not None:
            self.close()
            self._start()
        if self.reader != reader:
            if self._answer(reader, START_SECONDS) != "ready\n":
                raise RuntimeError(f"'{reader}' reads no good file: {self.last_words()}")
            self.reader = reader

    def ask(self, seed: int, index: int) -> dict[str, str]:
        """The outcome of one input; a worker that dies or hangs is an outcome too."""
        line = self._answer(f"{seed} {index}", WALL_SECONDS)
        if not line:
            code = self.process.wait()
            return {"outcome": "died", "why": f"exit status {code}: {self.last_words()}"}
        return dict(json.loads(line))

    def _answer(self, line: str, seconds: float) -> str:
        stdin: Any = self.process.stdin
        stdin.write(f"{line}\n")
        stdin.flush()
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
    worker: Worker, name: str, seed: int, n_inputs: int, first: int = 0, save_to: Path | None = None
) -> Result:
    """Damage and read ``n_inputs`` files of one kind."""
    result = Result()
    for index in range(first, first + n_inputs):
        worker.take(name)
        answer = worker.ask(seed, index)
        result.counts[answer["outcome"]] += 1
        if answer["outcome"] not in ("accepted", "refused"):
            result.failures.append((index, answer["why"], save(name, seed, index, save_to)))
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
