"""What is asked of the batches of a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biril_nm.errors import ConfigError, WorkerError

__all__ = ["check_loaders", "check_samples", "enough_for_norms", "read_to_the_end", "samples_of"]

SAMPLES = "samples"  # name of their number in what a run keeps

ENDED = (
    "DataLoader worker (pid"  # in what torch raises where a process that reads samples has ended
)
ONE_VALUE = "more than 1 value per channel"  # in what BatchNorm of torch raises


def check_loaders(loaders: tuple[Iterable[Any], Iterable[Any] | None], epochs: int) -> None:
    """Refuse what can be read in one epoch only.

    Raises:
        ConfigError: a generator for several epochs.
    """
    for what, loader in zip(("training", "test"), loaders):
        if epochs > 1 and isinstance(loader, Iterator) and not hasattr(loader, "epoch"):
            raise ConfigError(
                f"the {what} loader is a {type(loader).__name__}, which can be read once, and epochs is "
                f"{epochs}; expected batches that can be read again in each epoch. Give a list of them, or a "
                f"DataLoader"
            )


def samples_of(loader: Any) -> dict[str, Tensor]:
    """The number of samples of a loader that has a split, as a run keeps it."""
    split = getattr(loader, "split", None)
    return {SAMPLES: torch.tensor(len(split))} if isinstance(split, Sized) else {}


def check_samples(loader: Any, kept: Mapping[str, Tensor], path: Path) -> None:
    """Refuse to go on with other samples than those of the epochs before.

    Raises:
        ConfigError: a run kept another number of them.
    """
    before, now = kept.get(SAMPLES), samples_of(loader).get(SAMPLES)
    if before is not None and now is not None and not torch.equal(before, now):
        raise ConfigError(
            f"'{path}' belongs to a run on {before.tolist()} training samples, and there are {now.tolist()}; "
            f"expected the same. Resume with the data that it began with, or choose another output folder"
        )


@contextmanager
def read_to_the_end() -> Iterator[None]:
    """While it is open, the end of a process that reads samples is an error that says so.

    Raises:
        WorkerError: one has ended, as where the system kills it for its memory.
    """
    try:
        yield
    except RuntimeError as error:  # torch raises it wherever the program is at that moment
        if ENDED not in str(error):
            raise
        raise WorkerError(
            f"a process that reads samples has ended: {str(error).splitlines()[0]:.200}; expected it to read "
            f"to the end of the epoch. Free memory, or read with fewer workers (workers=0), and go on with "
            f"--resume (resume=True)"
        ) from error


@contextmanager
def enough_for_norms(index: int, x: Tensor) -> Iterator[None]:
    """Say what is to be done where BatchNorm has one value per channel, which has no variance.

    Raises:
        ConfigError: batch ``index``, ``(n_steps, batch, ...)``, is too small for it.
    """
    try:
        yield
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise ConfigError(
            f"batch {index + 1} has {x.shape[1]} sample, which gives a BatchNorm one value per channel; "
            f"expected two or more. Give batches of two or more samples (a DataLoader: drop_last=True), or "
            f"take BatchNorm out"
        ) from error
