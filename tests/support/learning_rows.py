"""What a plastic connection receives in each chip step, taken from a recording of the run."""

from __future__ import annotations

import numpy as np


def chip_rows(graph, spikes, run, name, n_rows):
    """What a node sent in each chip step, flat, in torch order."""
    if name in graph.neurons:
        return run.chip_time()[name].s.reshape(n_rows, -1)
    values = spikes[name] if isinstance(spikes, dict) else spikes
    n_steps, batch = values.shape[:2]
    rows = np.zeros((n_rows, int(np.prod(values.shape[2:]))), int)
    for sample in range(batch):
        start = sample * graph.sample_period(n_steps)
        stop = min(start + n_steps, n_rows)
        rows[start:stop] = values[: stop - start, sample].reshape(stop - start, -1)
    return rows


def third_factors(graph, spikes, run, name, n_rows):
    """Values of y1, y2, y3 at each chip step, filtered where the rule declares a trace."""
    node, target = graph.plastic[name], graph.ends[name][1]
    n_post = graph.neurons[target].size
    values = {factor: np.zeros((n_rows, n_post), int) for factor in ("y1", "y2", "y3")}
    for factor, source in node.modulators.items():
        rows = chip_rows(graph, spikes, run, source, n_rows)
        if source in graph.inputs:
            if graph.inputs[source].message_bits == 0:
                rows = (rows != 0).astype(int)
            late = graph.latency[target]
            rows = np.concatenate([np.zeros((late, rows.shape[1]), int), rows])[:n_rows]
        rows = np.broadcast_to(rows, (n_rows, n_post))
        if factor in node.rule.traces:
            trace = node.rule.traces[factor]
            keep = float(np.exp(-1 / np.array([float(trace.tau)]))[0]) if trace.tau else 0.0
            y = np.zeros(n_post, int)
            for t in range(n_rows):
                y = np.floor(keep * y).astype(int) + int(trace.impulse) * (rows[t] != 0)
                y = np.minimum(y, 127)
                values[factor][t] = y
        else:
            values[factor] = rows
    return values
