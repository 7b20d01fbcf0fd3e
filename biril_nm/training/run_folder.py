"""The folder of a run: one writer at a time, and nothing of another run beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biril_nm.errors import OutputExistsError
from biril_nm.storage import lock_folder
from biril_nm.training.best import BEST
from biril_nm.training.checkpoint import CHECKPOINT
from biril_nm.training.events import remove_events
from biril_nm.training.reporting import CURVES, EVENTS, METRICS
from biril_nm.training.run_config import CONFIG
from biril_nm.training.wandb_run import RUN_ID

__all__ = ["FILES", "GRAPH", "MODEL", "PARENT", "WEIGHTS", "open_run"]

MODEL = "model.pt"
WEIGHTS = "weights.pt"  # of a module that no registry builds
GRAPH = "model.loihi.npz"  # of a network that was trained on integers
PARENT = "parent.pt"  # the model that a run started from
WRITTEN = (CHECKPOINT, MODEL, WEIGHTS, GRAPH, BEST, METRICS, CURVES)  # by fit
# All that a new run removes, in this order: a run that is killed before its first epoch must not be
# continued from the state of the one before.
FILES = (CONFIG, *WRITTEN, PARENT, RUN_ID)


@contextmanager
def open_run(folder: Path, resume: bool, force: bool) -> Iterator[None]:
    """Hold a folder for one training run; with ``force`` an earlier one is removed at once.

    Raises:
        OutputExistsError: the folder holds a run, and neither resume nor force is set.
        OutputInUseError: another process trains into the folder.
    """
    if not (resume or force):
        refuse_run(folder)
    with lock_folder(folder):
        if not (resume or force):
            refuse_run(folder)
        if force and not resume:
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            remove_events(folder / EVENTS)
        yield


def refuse_run(folder: Path) -> None:
    """Refuse a folder that holds a run.

    Raises:
        OutputExistsError: there is a file that the run would write.
    """
    for name in WRITTEN:
        if (folder / name).exists():
            raise OutputExistsError(
                f"'{folder}' holds a run already ({name}). Continue it with --resume (resume=True), "
                f"replace it with --force (force=True), or choose another folder"
            )
