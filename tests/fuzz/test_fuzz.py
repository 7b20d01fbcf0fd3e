"""Damaged files for every reader, the same in every run; ``make fuzz`` tries others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fuzz.driver import Worker, fuzz
from tests.fuzz.readers import READERS

N_INPUTS = (20, pytest.param(300, marks=pytest.mark.slow))
SEED = 1


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with closing(Worker()) as process:
        yield process


@pytest.mark.parametrize("n_inputs", N_INPUTS)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(
    name: str, n_inputs: int, worker: Worker, tmp_path: Path
) -> None:
    result = fuzz(worker, name, SEED, n_inputs, save_to=tmp_path)
    text = "\n".join(
        f"python -m tests.fuzz --reader {name} --seed {SEED} --first {index} --inputs 1 ({path}): {why}"
        for index, why, path in result.failures
    )
    assert not result.failures, text
    assert result.counts["refused"] > n_inputs / 10
    assert sum(result.counts.values()) == n_inputs


DIES_AT_1 = """
import os, sys
for line in sys.stdin:
    if line.endswith(" 1\\n"):
        os._exit(9)
    print("ready" if len(line.split()) == 1 else '{"outcome": "accepted"}', flush=True)
"""


def test_a_worker_that_dies_is_replaced_and_reported() -> None:
    with closing(Worker((sys.executable, "-I", "-S", "-c", DIES_AT_1))) as worker:
        first = worker.process.pid
        result = fuzz(worker, "rule_toml", 0, 4)
        assert worker.process.pid != first
    ((index, why, _),) = result.failures
    assert (index, why) == (1, "exit status 9: ")
    assert result.counts == {"accepted": 3, "died": 1}
