"""Run an exported network on Lava (lava-nc and numpy alone) and print its predictions.

    python run_lava.py [--spikes X.npz] [--out TRACE.npz] [--samples N] [--record s,u,v] [--learn]

Spikes: ``.npz`` with an array ``spikes`` of shape (n_steps, batch, *shape), or one array per input,
named as the input. All samples stream back to back through one Lava run. Results are in node time:
index t of a node's trace answers input step t.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import mmap
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from biril_nm.decision import class_scores

    from .lava_files import InputError, load_network, load_spikes
else:  # in a bundle
    from decision import class_scores  # type: ignore[import-not-found, no-redef]
    from lava_files import (  # type: ignore[import-not-found, no-redef]
        InputError,
        load_network,
        load_spikes,
    )

HERE = Path(__file__).resolve().parent
POLL_S = 0.002
STALL_S = 60.0
VARIABLE_TYPES = {"s": np.uint8, "u": np.int32, "v": np.int32}
SYNAPTIC = ("w", "t", "d")
LEARNING = (*SYNAPTIC, "x1", "x2", "y1", "y2", "y3")
LAVA = "lava-nc==0.10.0"
IMPORTED = ("numpy", "scipy", "networkx", "asteval>=0.9.31,<0.10")  # by Lava
# lava-nc declares Python 3.10; lava_compat.py lets it run on later ones.
INSTALL = (
    f'"{LAVA}" "numpy<2"'
    if sys.version_info < (3, 11)
    else " ".join(f'"{each}"' for each in IMPORTED)
    + f', then pip install --no-deps --ignore-requires-python "{LAVA}"'
)


class RunFailedError(RuntimeError):
    """A Lava process raised, died or stopped making progress."""


# --- streaming ----------------------------------------------------------------------------------


def chip_rows(description: dict[str, Any], n_steps: int, batch: int) -> int:
    """Steps until the last node has answered the last step of the last sample."""
    latest = max(node["latency"] for node in description["neurons"])
    return int((batch - 1) * (n_steps + description["max_slack"]) + n_steps + latest)


def node_time(rows: Any, latency: int, period: int, n_steps: int, batch: int) -> Any:
    """(n_rows, *shape) in chip time to (n_steps, batch, *shape): row i * period + latency + t."""
    starts = np.arange(batch) * period + latency
    return rows[starts[np.newaxis, :] + np.arange(n_steps)[:, np.newaxis]]


def chip_input(spikes: Any, period: int, n_rows: int) -> Any:
    """(n_steps, batch, *shape) to Lava's source (*shape, n_rows): samples back to back, then 0."""
    n_steps, batch = spikes.shape[:2]
    rows = np.zeros((n_rows, *spikes.shape[2:]), dtype=np.int32)
    for sample in range(batch):
        start = sample * period
        rows[start : start + n_steps] = spikes[:, sample]
    return np.moveaxis(rows, 0, -1)


def shared_array(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros in anonymous memory that forked processes share."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=dtype, count=size and -1)[
        : int(np.prod(shape))
    ].reshape(shape)


def stream(
    network: Any,
    spikes: dict[str, Any],
    record: tuple[str, ...],
    stall_s: float = STALL_S,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Stream all samples through ``network`` and return its recording in chip time.

    Args:
        network: a ``LavaNetwork`` that has not run yet; it cannot be used again.
        spikes: input name -> integers (n_steps, batch, *shape).
        record: variables to record, out of s, u, v, and of plastic connections w, t, d, x1, x2, y1,
            y2, y3. Their last w, t, d are in ``network.plastic[name].proc_params["final"]``.
        stall_s: give up if no population finishes a step for that long.
        progress: called with the steps done and all steps.

    Returns:
        Name of population or plastic connection -> variable -> (n_rows, *shape); row c is chip step
        c + 1.

    Raises:
        RunFailedError: a Lava process failed; all processes are ended.
    """
    from lava.proc.io.source import RingBuffer

    batch = next(iter(spikes.values())).shape[1]
    n_rows = chip_rows(network.description, network.n_steps, batch)
    recording: dict[str, dict[str, Any]] = {}
    signed = {node["name"] for node in network.description["neurons"] if node.get("signed")}
    clocks = shared_array((len(network.populations),), np.int64)
    for index, (name, part) in enumerate(network.populations.items()):
        types = {**VARIABLE_TYPES, "s": np.int8} if name in signed else VARIABLE_TYPES
        recording[name] = {
            key: shared_array((n_rows, *part.v.shape), kind)
            for key, kind in types.items()
            if key in record
        }
        part.proc_params["record"] = recording[name]
        part.proc_params["clock"] = clocks[index : index + 1]
    for name, part in network.plastic.items():
        shapes = part.recorded_shapes
        recording[name] = {
            key: shared_array((n_rows, *shapes[key]), np.int32) for key in LEARNING if key in record
        }
        part.proc_params["record"] = recording[name]
        part.proc_params["final"] = {key: shared_array(shapes[key], np.int32) for key in SYNAPTIC}
    sources = {}
    for name, port in network.inputs.items():
        sources[name] = RingBuffer(data=chip_input(spikes[name], network.period, n_rows))
        sources[name].s_out.connect(port)
    config = network.fixed_point_config(sources)
    members = [*network.parts, *sources.values()]
    run_watched(network, members, config, n_rows, clocks, stall_s, progress)
    return recording


def run_watched(
    process: Any,
    members: list[Any],
    config: Any,
    n_steps: int,
    clocks: Any,
    stall_s: float,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run and stop a Lava Process; on any failure end its processes instead of waiting forever."""
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.run_conditions import RunSteps

    try:
        process.create_runtime(run_cfg=config)
        process.runtime.start(RunSteps(num_steps=n_steps, blocking=False))
        _wait(process.runtime, n_steps, clocks, stall_s, progress)
        process.runtime.wait()
        process.stop()
        if clocks.min() < n_steps:
            raise RunFailedError(f"Lava left out a population: steps done {clocks.tolist()}")
    except BaseException:
        _end(process.runtime)
        raise
    finally:
        # Lava's server would keep every Process, with weights and input, until the program ends.
        ours = {id(process), *map(id, members)}
        server = ProcessServer()
        server.processes[:] = [each for each in server.processes if id(each) not in ours]


def _wait(
    runtime: Any,
    n_steps: int,
    clocks: Any,
    stall_s: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Return when the run has answered; raise if a process failed or nothing moves."""
    from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

    actors = runtime._messaging_infrastructure.actors
    done, moved = -1, time.monotonic()
    while True:
        answered = [port for port in runtime.service_to_runtime if port.probe()]
        failed = [actor.exception for actor in actors if actor.exception]
        if failed:
            raise RunFailedError(f"a Lava process raised {failed[0][0]!r}:\n{failed[0][1]}")
        if any(not actor.is_alive() for actor in actors):
            raise RunFailedError("a Lava process ended before the run was done")
        errors = [port for port in answered if enum_equal(port.peek(), MGMT_RESPONSE.ERROR)]
        if len(answered) == len(runtime.service_to_runtime) and not errors:
            return
        step = int(clocks.min()) if len(clocks) else 0
        if step != done:
            done, moved = step, time.monotonic()
            if progress is not None:
                progress(min(step, n_steps), n_steps)
        elif time.monotonic() - moved > stall_s:
            raise RunFailedError(f"Lava made no progress for {stall_s:g} s after step {step}")
        time.sleep(POLL_S)


def _end(runtime: Any) -> None:
    """Kill what is left of a run and free its shared memory."""
    infrastructure = getattr(runtime, "_messaging_infrastructure", None)
    if infrastructure is None:
        return
    for actor in infrastructure.actors:
        with contextlib.suppress(ValueError):  # closed: has ended
            actor.kill()
    for actor in infrastructure.actors:
        with contextlib.suppress(ValueError, EOFError):
            actor.join()
    if infrastructure.smm is not None:
        infrastructure.smm.shutdown()
    runtime._is_started = runtime._is_running = False


@contextlib.contextmanager
def quiet_lava() -> Iterator[None]:
    """Leave the root logger as it was and drop Lava's own warnings.

    Each Process adds a handler to the root logger. Forked processes inherit the warning filters: with
    filters that raise, a harmless warning inside Lava would end a process and hang the run.
    """
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers


# --- command line -------------------------------------------------------------------------------


def save_trace(
    path: Path, traces: dict[str, dict[str, Any]], meta: dict[str, Any], compress: bool
) -> None:
    """``.npz`` with arrays ``NODE.s``, ``NODE.u``, ``NODE.v`` and ``meta`` (JSON)."""
    arrays = {f"{n}.{key}": array for n, node in traces.items() for key, array in node.items()}
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream_out:
        save = np.savez_compressed if compress else np.savez
        save(stream_out, **arrays, meta=np.array(json.dumps(meta)))
    part.replace(path)


def run(args: argparse.Namespace) -> None:
    """Load, stream, print, save."""
    if not hasattr(os, "fork"):
        raise InputError("this system cannot fork, as Lava does. Run it on Linux (on Windows: WSL)")
    description, arrays = load_network(HERE / "network.npz")
    allowed = (*VARIABLE_TYPES, *(LEARNING if args.learn else ()))
    record = tuple(key for key in allowed if key in args.record.split(","))
    if set(args.record.split(",")) - set(record):
        raise InputError(f"--record {args.record}: expected {', '.join(allowed)}")
    if args.learn and not any(node.get("rule") for node in description["connections"]):
        raise InputError("--learn: no connection of this network has a learning rule")
    if args.out is not None and args.out.exists() and not args.force:
        raise InputError(f"output '{args.out}' exists already. Pass --force to replace it")
    spikes = load_spikes(args.spikes, description, args.samples)
    n_steps, batch = next(iter(spikes.values())).shape[:2]

    from lava_network import LavaNetwork  # type: ignore[import-not-found]

    with quiet_lava():
        network = LavaNetwork(description, arrays, n_steps, learn=args.learn)
        period = network.period
        if args.hardware:
            on_hardware(network, spikes, args)
            return
        rows = stream(network, spikes, tuple({"s", "v", *record}), args.stall)
    traces = {
        node["name"]: {
            key: node_time(array, node["latency"], period, n_steps, batch)
            for key, array in rows[node["name"]].items()
        }
        for node in description["neurons"]
    }
    counts = {name: int(np.count_nonzero(trace["s"])) for name, trace in traces.items()}
    if not args.quiet:
        report(description, arrays, traces, counts)
    if args.out is not None:
        kept = {
            name: {key: trace[key] for key in VARIABLE_TYPES if key in record}
            for name, trace in (rows if args.chip_time else traces).items()
            if name in traces
        }
        kept.update({name: learned(rows[name], part) for name, part in network.plastic.items()})
        meta = {"engine": "lava", "n_steps": n_steps, "batch": batch, "n_spikes": counts}
        save_trace(args.out, kept, meta, compress=not args.chip_time)


def on_hardware(network: Any, spikes: dict[str, Any], args: argparse.Namespace) -> None:
    """Run on Loihi 2, print the spikes of each output and save them."""
    from lava_hardware import objections, predictions, run_on_hardware  # type: ignore[import-not-found]

    found = objections(network, args.learn)
    if found:
        raise InputError(f"--hardware: {'; '.join(found)}")
    n_steps, batch = next(iter(spikes.values())).shape[:2]
    n_rows = chip_rows(network.description, n_steps, batch)
    given = {name: chip_input(values, network.period, n_rows) for name, values in spikes.items()}
    rows = run_on_hardware(network, given, n_rows)
    latency = {node["name"]: node["latency"] for node in network.description["neurons"]}
    traces = {
        name: {"s": node_time(array, latency[name], network.period, n_steps, batch)}
        for name, array in rows.items()
    }
    sys.stdout.write(predictions(traces))
    if args.out is not None:
        save_trace(args.out, traces, {"engine": "loihi2", "n_steps": n_steps, "batch": batch}, True)


def learned(rows: dict[str, Any], part: Any) -> dict[str, Any]:
    """Recorded variables of a plastic connection; its last weights and tags as w_last, t_last, d_last."""
    final = {f"{key}_last": array for key, array in part.proc_params["final"].items()}
    return {**{key: array for key, array in rows.items() if key in LEARNING}, **final}


def report(
    description: dict[str, Any],
    arrays: dict[str, Any],
    traces: dict[str, dict[str, Any]],
    counts: dict[str, int],
) -> None:
    """Print one prediction per sample and output, then the spikes of each node."""
    say, decision = sys.stdout.write, description["decision"]
    for index, node in enumerate(description["neurons"]):
        if node["name"] not in description["outputs"]:
            continue
        spikes, v = (traces[node["name"]][key] for key in ("s", "v"))
        spikes, v = (a.reshape(*a.shape[:2], -1) for a in (spikes, v))
        threshold = arrays[f"readout.{index}"].reshape(-1).astype(np.int64)
        scores = class_scores(decision, spikes, v[-1], threshold << description["vth_shift"])
        for sample, best in enumerate(scores.argmax(axis=-1)):
            seen = f"{int(spikes[:, sample, best].sum())} spikes, v {int(v[-1, sample, best])}"
            say(f"sample {sample}: {node['name']} predicts {best} ({decision}: {seen})\n")
    for name, count in counts.items():
        say(f"spikes {name}: {count}\n")


def positive(text: str) -> int:
    """An integer above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def main() -> int:
    """Command line; 0 done, 1 input refused or run failed, 2 usage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--spikes", type=Path, default=HERE / "input.npz", help="input .npz")
    parser.add_argument("--out", type=Path, help="write the trace to this .npz")
    parser.add_argument("--samples", type=positive, help="first N samples only")
    parser.add_argument(
        "--record", default="s", help="what --out holds: s,u,v; with --learn also w,t,d,x1,..."
    )
    parser.add_argument(
        "--hardware", action="store_true", help="on Loihi 2, through Intel's lava-loihi"
    )
    parser.add_argument("--learn", action="store_true", help="let plastic connections learn")
    parser.add_argument(
        "--chip-time",
        action="store_true",
        help="--out holds the whole stream, one row per chip step",
    )
    parser.add_argument("--quiet", action="store_true", help="print no predictions")
    parser.add_argument(
        "--stall", type=float, default=STALL_S, help="seconds without progress before giving up"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing --out")
    try:
        run(parser.parse_args())
    except (InputError, RunFailedError) as error:
        sys.stderr.write(f"run_lava.py: {error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"run_lava.py: {error}. Install Lava with: pip install {INSTALL}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
