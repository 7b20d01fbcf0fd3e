"""Run the cells of a study, each once; what is there already is not run again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from biril_nm.arguments import Count, checked
from biril_nm.display import shown
from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError, bullet_list
from biril_nm.evaluation.workers import run_jobs
from biril_nm.storage import atomic_file, lock_folder
from biril_nm.studies.grid.cell import RUN, Cell, CellResult, read_result, work
from biril_nm.studies.grid.plan import StudyPlan

__all__ = ["CELLS", "PLAN", "check_folder", "discard_study", "run_study", "stored_results"]

PLAN = "study.toml"
CELLS, ERROR = "cells", "error.txt"


@checked
def run_study(
    plan: StudyPlan,
    out_dir: str | Path,
    data_root: str | Path | None = None,
    n_workers: Count = 1,
    cluster: bool = False,
    resume: bool = False,
    progress: Callable[[CellResult], None] | None = None,
    failed: Callable[[Cell, str], None] | None = None,
) -> list[CellResult]:
    """Results of the cells, in the order of :meth:`StudyPlan.cells`.

    Each cell has a folder of its own, so that a study which was interrupted goes on where it was, in the
    middle of a cell too, and gives the same results. A cell that fails leaves the reason in ``error.txt``,
    and the others run on.

    Args:
        plan: the study.
        out_dir: folder; ``study.toml`` and ``cells/METHOD-SEED/result.json``.
        data_root: folder of the data sets.
        n_workers: processes, each with one cell at a time. A cell trains with one thread, so that it gives
            the same in any number of them.
        cluster: run on Ray instead of local processes; ``out_dir`` must be on a shared disk.
        resume: go on with a study of the same plan in ``out_dir``, or of a plan with fewer methods or
            seeds, and try cells again that have failed.
        progress: called with each result, those that are there first.
        failed: called with each cell that fails and why; None: an error at the end names them.

    Raises:
        ConfigError: the folder holds another study, or cells have failed and ``failed`` is not given.
        OutputExistsError: the folder holds a study, and ``resume`` is not set.
        OutputInUseError: another process runs the study.
        WorkerError: a worker was killed.
        FileFormatError: a folder of a cell is a link, or damaged.
    """
    folder = Path(out_dir)
    check_folder(folder, plan, resume)
    homes = [folder / CELLS / f"{method.folder}-{seed}" for method, seed in plan.cells()]
    _refuse_links([folder / CELLS, *homes])
    results: dict[tuple[str, int], CellResult] = {}
    failures: list[str] = []
    with lock_folder(folder):
        plan.write(folder / PLAN)
        waiting = []
        root = None if data_root is None else str(data_root)
        for (method, seed), home in zip(plan.cells(), homes):
            done = read_result(home, plan, method, seed)
            if done is None:
                waiting.append(Cell(plan, method, seed, str(home), root))
                continue
            shutil.rmtree(home / RUN, ignore_errors=True)  # of a kill behind the result
            results[method.name, seed] = done
            if progress is not None:
                progress(done)
        for cell, found in _run(waiting, n_workers, cluster):
            error = Path(cell.folder) / ERROR
            if isinstance(found, str):
                with atomic_file(error) as part:
                    part.write_text(shown(found) + "\n", encoding="utf-8")
                failures.append(f"cell {cell.method.name}, seed {cell.seed}: {found}")
                if failed is not None:
                    failed(cell, found)
                continue
            error.unlink(missing_ok=True)
            results[cell.method.name, cell.seed] = found
            if progress is not None:
                progress(found)
    if failures and failed is None:
        done_text = (
            f"{len(failures)} of {len(plan.cells())} cells failed; the others are in '{folder}':"
        )
        raise ConfigError(bullet_list(done_text, failures))
    return [results[m.name, seed] for m, seed in plan.cells() if (m.name, seed) in results]


def _refuse_links(folders: Iterable[Path]) -> None:
    """Refuse folders that lead elsewhere, where trainings of other studies would be removed.

    Raises:
        FileFormatError: one is a link.
    """
    for folder in folders:
        if folder.is_symlink():
            raise FileFormatError(
                f"'{folder}' is a link; expected a folder of the study. Remove it, or put the whole study "
                f"elsewhere with --out"
            )


def _run(
    waiting: list[Cell], n_workers: int, cluster: bool
) -> Iterable[tuple[Cell, CellResult | str]]:
    """In this process where one worker is asked for."""
    if n_workers == 1 and not cluster:
        return map(work, waiting)
    return run_jobs(work, waiting, n_workers, cluster)


@checked
def check_folder(folder: Path, plan: StudyPlan, resume: bool) -> None:
    """Whether a study may run there.

    Raises:
        ConfigError: the folder holds another study, or none although ``resume`` is set.
        OutputExistsError: the folder holds a study, and ``resume`` is not set.
    """
    path = folder / PLAN
    if not path.exists():
        if resume:
            raise ConfigError(
                f"'{folder}' does not hold a study: {PLAN} is missing; expected a folder of biril study. "
                f"Check the folder, or leave --resume (resume=True) out to start a study"
            )
        return
    if not resume:
        raise OutputExistsError(
            f"'{folder}' holds a study already ({PLAN}). Continue it with --resume (resume=True), replace it "
            f"with --force (discard_study), or choose another folder"
        )
    changed = _changed(StudyPlan.read(path), plan)
    if changed:
        raise ConfigError(
            f"'{folder}' belongs to another study: {', '.join(changed)} differ; expected the same settings, "
            f"and at least its methods and seeds. Choose another folder, or leave the options out"
        )


def _changed(before: StudyPlan, plan: StudyPlan) -> list[str]:
    """Fields by which it is another study; one that goes on may have further methods and seeds."""
    grown = [
        name
        for name in ("methods", "seeds")
        if all(value in getattr(plan, name) for value in getattr(before, name))
    ]
    old, new = before.to_dict(), plan.to_dict()
    return sorted(name for name in new if name not in grown and new[name] != old[name])


@checked
def discard_study(folder: str | Path) -> None:
    """Remove the study of a folder, if there is one, and its cells; other files stay.

    Raises:
        OutputInUseError: another process runs the study.
    """
    home = Path(folder)
    if not (home / PLAN).exists():
        return
    with lock_folder(home):
        shutil.rmtree(home / CELLS, ignore_errors=True)
        (home / PLAN).unlink()


@checked
def stored_results(folder: str | Path) -> tuple[StudyPlan, list[CellResult]]:
    """Plan and finished cells of a study.

    Raises:
        FileFormatError: damaged files.
        ConfigError: no study is there.
    """
    home = Path(folder)
    check_folder(home, StudyPlan.read(home / PLAN), resume=True)
    plan = StudyPlan.read(home / PLAN)
    found = [
        read_result(home / CELLS / f"{method.folder}-{seed}", plan, method, seed)
        for method, seed in plan.cells()
    ]
    return plan, [result for result in found if result is not None]
