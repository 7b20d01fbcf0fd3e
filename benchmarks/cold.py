"""One fresh process: time from file to first output, and memory. Called by simulator.py."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()


def peak_kib() -> float:
    """Peak resident memory of this program; ru_maxrss would include the parent's before exec."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return float(found[0]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(path: str, n_steps: int, n_samples: int) -> None:
    """Load a graph, answer one sample, then run a batch; print times and peak memory as JSON."""
    import numpy as np

    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import LoihiGraph

    imported = time.perf_counter()
    graph = LoihiGraph.load(path)
    shape = next(iter(graph.inputs.values())).shape
    spikes = (np.random.default_rng(0).random((n_steps, n_samples, *shape)) < 0.1).astype(np.uint8)
    simulate(graph, spikes[:, :1], record=(), n_threads=1)
    first = time.perf_counter()
    before = peak_kib()
    simulate(graph, spikes, record=(), n_threads=1)
    after = peak_kib()
    found = {
        "import_s": imported - BEGAN,
        "file_to_first_s": first - imported,
        "rss_first_mib": before / 1024,
        "rss_batch_mib": after / 1024,
        "input_mib": spikes.nbytes / 2**20,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
