"""Synapse lists of sparse connections, counted by compiled code."""

from __future__ import annotations

from typing import Any

from biril_nm.storage.machine_code import kept

__all__ = ["count_lists", "fill_runs"]


@kept
def count_lists(
    rows: Any, edges: Any, growth: Any, state: Any, found: Any, reached: Any, most: Any
) -> bool:
    """Count the lists into each block of a grid, one for each source with a target in it.

    Returns whether all blocks were counted: it stops behind one that takes more than it may.

    Args:
        rows: row pointers and columns of a CSR matrix (target, source).
        edges: where blocks start and end along each axis of the targets, seen as (C, H, W).
        growth: bits that synapse k adds to a list.
        state: for each source the last block that it reached, -1 at first, and the length of its list there.
        found: lists and bits of each block, (2, blocks); 0 at first.
        reached: blocks that each source reaches; 0 at first.
        most: lists and bits that a block may take.
    """
    pointers, sources = rows
    c, h, w = edges
    axons, bits = found[0], found[1]
    block = 0
    for a in range(c.size - 1):
        for b in range(h.size - 1):
            for d in range(w.size - 1):
                for line in range(c[a] * h[-1], c[a + 1] * h[-1]):
                    if not h[b] <= line % h[-1] < h[b + 1]:
                        continue
                    first = line * w[-1]
                    for at in range(pointers[first + w[d]], pointers[first + w[d + 1]]):
                        source = sources[at]
                        if state[source, 0] != block:
                            state[source, 0], state[source, 1] = block, 0
                            axons[block] += 1
                            reached[source] += 1
                        bits[block] += growth[state[source, 1]]
                        state[source, 1] += 1
                if axons[block] > most[0] or bits[block] > most[1]:
                    return False
                block += 1
    return True


@kept
def fill_runs(rows: Any, memory: Any, slots: Any, state: Any, starts: Any, most: Any) -> int:
    """Cut targets into runs, each as long as the limits allow; returns how many.

    Args:
        rows: row pointers and columns of a CSR matrix (target, source).
        memory: kind of each source, bits that synapse k adds to a list (kind, k), and bits that k targets
            take besides.
        slots: output axon slots of each target.
        state: for each source the last run that it reached, -1 at first, and the length of its list there.
        starts: the first target of each run; written here.
        most: targets, lists, bits and slots that a run of more than one target may take.
    """
    pointers, sources = rows
    kinds, growth, fixed = memory
    run = line = start = axons = bits = out = 0
    starts[0] = 0
    while line < slots.size:
        size = line - start + 1
        if size <= most[0]:
            for at in range(pointers[line], pointers[line + 1]):
                source = sources[at]
                if state[source, 0] != run:
                    state[source, 0], state[source, 1] = run, 0
                    axons += 1
                bits += growth[kinds[source], state[source, 1]]
                state[source, 1] += 1
            out += slots[line]
            fits = axons <= most[1] and bits + fixed[size] <= most[2] and out <= most[3]
            if fits or size == 1:
                line += 1
                continue
        run += 1
        start = starts[run] = line
        axons = bits = out = 0
    return run + 1
