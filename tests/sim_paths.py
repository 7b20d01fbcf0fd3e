"""Every way through the simulator's kernels, forced in turn: the same integers must come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from biril_nm.hardware_sim import engine, program, synapses

PATHS = {
    "as chosen": {},
    "16-bit weights, 32-bit sums": {"types": 1},
    "32-bit weights, 64-bit sums": {"types": 2},
    "no short step": {"short": False},
    "blocks of one sample and step": {"scratch": 1},
    "two threads": {"threads": 2},
}


@contextmanager
def forced(path: str) -> Iterator[int]:
    """Compile and run graphs in this way within the block; yields the number of threads."""
    how = PATHS[path]
    kept, types = dict(program._compiled), synapses.TYPES
    program._compiled.clear()
    try:
        with (
            mock.patch.object(synapses, "TYPES", types[how.get("types", 0) :] * 2),
            mock.patch.object(
                program,
                "_stays_inside",
                program._stays_inside if how.get("short", True) else _never,
            ),
            mock.patch.object(engine, "SCRATCH_BYTES", how.get("scratch", engine.SCRATCH_BYTES)),
        ):
            yield how.get("threads", 1)
    finally:
        program._compiled.clear()
        program._compiled.update(kept)


def _never(links: object) -> bool:
    return False
