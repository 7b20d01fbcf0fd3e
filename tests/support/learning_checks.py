"""Runs that learn, held against the scalar reference."""

from __future__ import annotations

from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Sparse
from biril_nm.recording import LEARNING_VARIABLES
from tests.support.learning_reference import Connection
from tests.support.learning_rows import chip_rows, third_factors

EVERYTHING = ("s", "u", "v", *LEARNING_VARIABLES)


def lists(node, values):
    """Weights or tags as [post][pre], None where a Sparse has no synapse."""
    if values is None:
        return None
    if isinstance(node, Dense):
        return [[int(v) for v in row] for row in values]
    places = node.weight.tocoo()
    full = [[None] * node.weight.shape[1] for _ in range(node.weight.shape[0])]
    for i, j, value in zip(places.row, places.col, values):
        full[i][j] = int(value)
    return full


def reference(node, per_synapse=False):
    own = node.weight.data if isinstance(node, Sparse) else node.weight
    return Connection(
        node.rule,
        lists(node, own),
        node.sign_mode.value,
        node.weight_bits,
        lists(node, node.tag_t),
        lists(node, node.tag_d),
        sparse=isinstance(node, Sparse),
        own=per_synapse,
    )


def check_against_reference(graph, spikes):
    """Compare every weight, tag and trace at every chip step; returns integers compared, changes."""
    run = simulate(graph, spikes, record=EVERYTHING, learn=True)
    n_rows = len(next(iter(run.chip_time().values())).s)
    compared = changed = 0
    for name, node in graph.plastic.items():
        per_synapse = graph.metadata.get("rounding") == "synapse"
        expected, found = reference(node, per_synapse), run.connections[name]
        source, target = graph.ends[name]
        pre = chip_rows(graph, spikes, run, source, n_rows)
        post = chip_rows(graph, spikes, run, target, n_rows)
        third = third_factors(graph, spikes, run, name, n_rows)
        recorded = found.variables()
        for t in range(n_rows):
            expected.step(pre[t] != 0, post[t], {key: rows[t] for key, rows in third.items()})
            for key, rows in recorded.items():
                if key in ("w", "t", "d"):
                    full = getattr(expected, key)
                    wanted = [v for row in full for v in row if v is not None]
                else:
                    wanted = expected.trace[key]
                assert_array_equal(rows[t].ravel(), wanted, f"{name}.{key} at chip step {t + 1}")
                compared += len(wanted)
        changed += int((recorded["w"][0] != recorded["w"][-1]).sum())
    return compared, changed
