"""Jobs on other processes: of this machine, or of a Ray cluster.

A process that ends before its job is done is replaced, and the job is done again, :data:`TRIES` times in all.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from biril_nm.arguments import Count
from biril_nm.errors import MissingDependencyError, WorkerError

__all__ = ["TRIES", "run_jobs", "shares_disk"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10  # Ray itself tries for minutes
TRIES = 3

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job], Result]


def run_jobs(
    work: Work[Job, Result], jobs: Iterable[Job], n_workers: Count, cluster: bool
) -> Generator[Result, None, None]:
    """Results as they come, in any order.

    Args:
        work: a function of a module, which a worker imports. It returns its errors, since not every
            error can be sent. A job whose worker ended is done again from its start.
        jobs: plain data.
        n_workers: processes.
        cluster: run on Ray (``pip install "biril-nm[cluster]"``) instead of local processes.

    Raises:
        WorkerError: the workers of a job ended :data:`TRIES` times, or no cluster answers.
        MissingDependencyError: ``cluster`` without Ray.
    """
    waiting = [_Try(job) for job in jobs]
    return (_on_ray if cluster else _on_processes)(work, waiting, n_workers)


def shares_disk(cluster: bool) -> bool:
    """Whether workers see the files of this process: not those of a cluster that runs already."""
    if not cluster:
        return True
    try:
        import ray
    except ImportError:
        return True  # run_jobs says so
    return not (os.environ.get("RAY_ADDRESS") or ray.is_initialized())


@dataclass
class _Try(Generic[Job]):
    """A job, and how often a worker began it."""

    job: Job
    count: int = 0

    def begin(self) -> None:
        """Count this try."""
        self.count += 1

    def failed(self, reason: str, cause: BaseException) -> None:
        """Say that the job is done again.

        Raises:
            WorkerError: it was begun too often.
        """
        if self.count >= TRIES:
            raise WorkerError(
                f"a worker process ended before its part was done, {TRIES} times: {reason}. Use fewer "
                f"workers, or fewer samples"
            ) from cause
        logger.warning(
            "a worker process ended before its part was done (%s); the part is done again, try %d of %d",
            reason,
            self.count + 1,
            TRIES,
        )


def _on_processes(
    work: Work[Job, Result], jobs: list[_Try[Job]], n_workers: Count
) -> Generator[Result, None, None]:
    """Run the jobs on new processes of this machine."""
    import multiprocessing

    before = set(multiprocessing.active_children())
    waiting, idle = deque(jobs), [_new_process() for _ in range(min(n_workers, len(jobs)))]
    pools = list(idle)
    running: dict[Future[Result], tuple[ProcessPoolExecutor, _Try[Job]]] = {}
    finished = False
    try:
        while waiting or running:
            while waiting and idle:
                pool, job = idle.pop(), waiting.popleft()
                job.begin()
                running[_submitted(pool, work, job)] = pool, job
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            results = []
            for future in done:
                pool, job = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    job.failed("it was killed, or memory ran out", error)
                    waiting.append(job)
                    pool = _new_process()
                    pools.append(pool)
                else:
                    results.append(future.result())
                idle.append(pool)
            yield from results
        finished = True
    finally:  # after an interrupt or an error, workers end whatever they do
        for pool in pools:
            pool.shutdown(wait=finished, cancel_futures=True)
        workers = set(multiprocessing.active_children()) - before
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _new_process() -> ProcessPoolExecutor:
    """A worker (spawn), which inherits no thread or lock of this process.

    It is a pool of its own: the end of a process fails all jobs of its pool.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_prepare)


def _submitted(
    pool: ProcessPoolExecutor, work: Work[Job, Result], job: _Try[Job]
) -> Future[Result]:
    try:
        return pool.submit(work, job.job)
    except BrokenProcessPool as error:  # the process ended while it had nothing to do
        future: Future[Result] = Future()
        future.set_exception(error)
        return future


def _prepare() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal, since the parent answers it; end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker as soon as its parent is gone, which may have been killed without a word.

    It would else hold the folder that it writes to against whoever goes on there, and wait for ever.
    """
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _on_ray(
    work: Work[Job, Result], jobs: list[_Try[Job]], n_workers: Count
) -> Generator[Result, None, None]:
    """Run the jobs as Ray tasks, on a running cluster (RAY_ADDRESS) or on one started here."""
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "cluster", "run on a cluster") from error
    started = not ray.is_initialized()
    if started:
        _join_or_start(ray, n_workers)
    running: dict[Any, _Try[Job]] = {}
    try:
        task = ray.remote(num_cpus=1, max_retries=0)(work)  # tries are counted here

        def submit(job: _Try[Job]) -> None:
            job.begin()
            running[task.remote(job.job)] = job

        for job in jobs:
            submit(job)
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready)
            result, lost = _outcome(ray, ready)
            if lost is None:
                yield result
            else:
                job.failed(f"{_last_line(lost)} It was killed, or memory ran out", lost)
                submit(job)
    except ray.exceptions.RayError as error:
        raise WorkerError(
            f"a Ray worker did not do its part: {_last_line(error)} Its machine is gone or lacks biril-nm"
        ) from error
    finally:  # nothing runs on after an error
        for part in running:
            ray.cancel(part, force=True)
        if started:
            ray.shutdown()


def _outcome(ray: Any, reference: Any) -> tuple[Any, Exception | None]:
    """The result of a task, or the error that says that its worker ended."""
    try:
        return ray.get(reference), None
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        return None, error


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


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
