"""Jobs on other processes: of this machine, or of a Ray cluster."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from biril_nm.arguments import Count
from biril_nm.errors import MissingDependencyError, WorkerError

__all__ = ["run_jobs"]

CONNECT_SECONDS = 10  # Ray itself tries for minutes

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job], Result]


def run_jobs(
    work: Work[Job, Result], jobs: Iterable[Job], n_workers: Count, cluster: bool
) -> Iterator[Result]:
    """Results as they come, in any order.

    Args:
        work: a function of a module, which a worker imports. It returns its errors, since not every
            error can be sent.
        jobs: plain data.
        n_workers: processes.
        cluster: run on Ray (``pip install "biril-nm[cluster]"``) instead of local processes.

    Raises:
        WorkerError: a worker was killed, or no cluster answers.
        MissingDependencyError: ``cluster`` without Ray.
    """
    return (_on_ray if cluster else _on_processes)(work, jobs, n_workers)


def _on_processes(
    work: Work[Job, Result], jobs: Iterable[Job], n_workers: Count
) -> Iterator[Result]:
    """Run the jobs on new processes (spawn), which inherit no thread or lock of this one."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_leave_interrupts)
    finished = False
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
        finished = True
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process ended before its part was done: it was killed, or memory ran out. "
            "Use fewer workers, or fewer samples"
        ) from error
    finally:  # after an interrupt or an error, workers end whatever they do
        pool.shutdown(wait=finished, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - before:
            worker.terminate()


def _leave_interrupts() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal; the parent answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_ray(work: Work[Job, Result], jobs: Iterable[Job], n_workers: Count) -> Iterator[Result]:
    """Run the jobs as Ray tasks, on a running cluster (RAY_ADDRESS) or on one started here."""
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "cluster", "run on a cluster") from error
    started = not ray.is_initialized()
    if started:
        _join_or_start(ray, n_workers)
    waiting: list[Any] = []
    try:
        task = ray.remote(num_cpus=1)(work)
        waiting = [task.remote(job) for job in jobs]
        while waiting:
            (ready,), waiting = ray.wait(waiting, num_returns=1)
            yield ray.get(ready)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise WorkerError(
            f"a Ray worker did not do its part: {reason} It was killed, memory ran out, or its machine is "
            f"gone or lacks biril-nm"
        ) from error
    finally:  # nothing runs on after an error
        for part in waiting:
            ray.cancel(part, force=True)
        if started:
            ray.shutdown()


def _check_listening(address: str) -> None:
    """Raise OSError if nothing listens at host:port; Ray itself checks other addresses (``auto``)."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _join_or_start(ray: Any, n_workers: Count) -> None:
    """Connect to the cluster of RAY_ADDRESS, or start one here that sends no statistics."""
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=n_workers, include_dashboard=False, **quiet)
        return
    try:
        _check_listening(address)
        ray.init(**quiet)
    except OSError as error:
        raise WorkerError(
            f"no Ray cluster answers at RAY_ADDRESS '{address}'. Start one with `ray start --head`, or "
            f"unset RAY_ADDRESS to use this machine"
        ) from error
