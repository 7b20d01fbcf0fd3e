"""Worker processes that end before their time are replaced; what they should have done is done again."""

from __future__ import annotations

import importlib.util
import multiprocessing
import pickle
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import StorageError, WorkerError
from biril_nm.evaluation.sharding import ArraySamples, MappedSamples
from biril_nm.evaluation.workers import TRIES, run_jobs
from tests.support.command_line import ROOT
from tests.support.dying_jobs import DyingJob, square

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason='needs Ray: pip install "biril-nm[cluster]"')
AGAIN = "a worker process ended before its part was done"
on_both = pytest.mark.parametrize(
    "cluster",
    [False, pytest.param(True, marks=[pytest.mark.slow, needs_ray, pytest.mark.timeout(600)])],
    ids=["processes", "ray"],
)


def found(jobs, cluster):
    if cluster:
        import ray

        for module in (sys.modules[__name__], sys.modules[DyingJob.__module__]):
            ray.cloudpickle.register_pickle_by_value(module)  # workers lack these files
    with closing(run_jobs(square, jobs, 2, cluster)) as results:
        return sorted(results)


@on_both
def test_a_job_whose_worker_dies_is_done_again(cluster, tmp_path, caplog):
    deaths = [0, 1, 0, TRIES - 1, 0]
    jobs = [DyingJob(str(tmp_path), number, n) for number, n in enumerate(deaths)]
    assert found(jobs, cluster) == [0, 1, 4, 9, 16]
    assert [job.tries for job in jobs] == [1 + n for n in deaths]
    warned = [line for line in caplog.messages if AGAIN in line]
    assert len(warned) == sum(deaths)
    assert "memory ran out" in warned[0] and f"try 2 of {TRIES}" in warned[0]
    assert not multiprocessing.active_children()


@on_both
def test_a_job_that_kills_its_workers_is_given_up(cluster, tmp_path):
    jobs = [DyingJob(str(tmp_path), number, 99 * (number == 1)) for number in range(3)]
    with pytest.raises(WorkerError, match=rf"{AGAIN}, {TRIES} times: .*Use fewer workers"):
        found(jobs, cluster)
    assert jobs[1].tries == TRIES
    assert all(job.tries <= 1 for job in (jobs[0], jobs[2]))


def test_workers_end_with_whoever_reads_their_results(tmp_path):
    jobs = [DyingJob(str(tmp_path), number) for number in range(3)]
    with closing(run_jobs(square, jobs, 1, False)) as results:
        assert next(results) in (0, 1, 4)
    deadline = time.monotonic() + 60  # a pool's thread may be just taking the exit code
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not multiprocessing.active_children()
    assert sum(job.tries for job in jobs) < 3


STAYING = """
import sys
from biril_nm.evaluation.workers import run_jobs
from tests.support.dying_jobs import stay

list(run_jobs(stay, sys.argv[1:], 1, False))
"""


def until(true):
    deadline = time.monotonic() + 120
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def runs(number):
    """Whether a process is there and not at its end, which may come while its state is read."""
    try:
        state = Path("/proc", number, "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    command = [sys.executable, "-c", STAYING, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT) as parent:
        note = tmp_path / "worker"
        assert until(note.exists)
        worker = note.read_text()
        assert runs(worker)
        parent.kill()
    assert until(lambda: not runs(worker))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_worker_maps_its_part_of_the_samples(axis, tmp_path):
    r = np.random.default_rng(axis)
    given = ArraySamples(r.random((9, 7) if axis else (7, 9)), np.arange(7) % 3, axis)
    whole = MappedSamples.write(given, tmp_path)
    assert len(whole) == 7
    for first, last in ((0, 7), (2, 5), (5, 12)):
        part, (values, labels) = whole.part(first, last), given.part(first, last).read()
        assert len(part) == len(labels) > 0
        assert len(pickle.dumps(part)) < 1000
        mapped, named = pickle.loads(pickle.dumps(part)).read()
        base = mapped
        while not isinstance(base, np.memmap):
            base = base.base
        assert_array_equal(mapped, values)
        assert_array_equal(named, labels)
    inner = whole.part(1, 6).part(2, 4)
    assert_array_equal(inner.read()[1], given.labels[3:5])


def test_samples_that_fit_no_disk_are_reported(small_disk):
    given = ArraySamples(np.zeros((1, 8 << 20), np.uint8), np.zeros(1, np.int64))
    with pytest.raises(StorageError, match="values.npy' does not fit on its disk"):
        MappedSamples.write(given, small_disk)
