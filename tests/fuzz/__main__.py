"""``python -m tests.fuzz``: many inputs for every reader, and the seeds of those that escape."""

from __future__ import annotations

import argparse
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.fuzz.driver import Result, Worker, fuzz
from tests.fuzz.readers import READERS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="for each reader")
    parser.add_argument("--seed", type=int, help="default: a new one, which is printed")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--reader", action="append", choices=list(READERS), help="default: all")
    parser.add_argument(
        "--save", type=Path, default=Path("out/fuzz"), help="folder for inputs that escape"
    )
    parser.add_argument("--jobs", type=int, default=2, help="readers at a time")
    args = parser.parse_args()
    seed = secrets.randbits(32) if args.seed is None else args.seed
    names = args.reader or list(READERS)
    print(f"seed {seed}, {args.inputs} inputs for each of {len(names)} readers", flush=True)

    workers: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(args.jobs):
        workers.put(Worker())

    def one(name: str) -> Result:
        worker = workers.get()
        try:
            return fuzz(worker, name, seed, args.inputs, args.first, args.save)
        finally:
            workers.put(worker)

    failed = total = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(one, names)
        for name, result in zip(names, results):
            print(f"{name:17s} {dict(result.counts)}", flush=True)
            for index, why, path in result.failures[:20]:
                print(
                    f"  --reader {name} --seed {seed} --first {index} --inputs 1, saved as {path}\n{why}"
                )
            failed += len(result.failures)
            total += sum(result.counts.values())
    while not workers.empty():
        workers.get().close()
    print(f"{total} inputs, {failed} ended in neither acceptance nor an error of ours")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
