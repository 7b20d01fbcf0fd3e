"""Observers of a training run; the library itself draws nothing."""

from __future__ import annotations

from typing import Any

__all__ = ["Callback"]


class Callback:
    """Override the methods that you need; all do nothing by default."""

    def on_train_start(self, first_epoch: int, n_epochs: int) -> None:
        """Before the first epoch (after a resume: the one that comes next, counted from 0)."""

    def on_epoch_start(self, epoch: int, n_epochs: int, phase: str, n_batches: int) -> None:
        """Before an epoch; ``phase`` is a letter, or the cycle if phases change per batch."""

    def on_batch(self, index: int, n_batches: int, metrics: dict[str, float]) -> None:
        """After a batch; metrics are running means: ``loss``, ``accuracy``."""

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        """After an epoch, with its line of metrics.jsonl."""

    def on_train_end(self, records: list[dict[str, Any]]) -> None:
        """After the last epoch."""
