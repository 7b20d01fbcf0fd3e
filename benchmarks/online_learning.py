"""Learn the tasks of online learning by each method, over seeds.

    python benchmarks/online_learning.py --task dms --methods bptt,d-rtrl,es-d-rtrl --seeds 3 --out out/online

Each cell writes TASK-METHOD-SEED.json; a further call goes on with the cells that are missing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from biril_nm.storage import atomic_file
from biril_nm.training.online.tasks import METHODS, TASKS, train_task

EVERY = 25  # batches between two lines of progress


def main() -> None:
    """Run the cells and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batches", type=int)
    parser.add_argument("--out", type=Path, default=Path("out/online"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in range(given.seeds):
        for method in given.methods.split(","):
            path = given.out / f"{given.task}-{method}-{seed}.json"
            if not path.is_file():
                _cell(given, method, seed, path)
            print(path.read_text(encoding="utf-8").strip(), flush=True)


def _cell(given: argparse.Namespace, method: str, seed: int, path: Path) -> None:
    def show(batch: int, loss: float, accuracy: float) -> None:
        if batch % EVERY == 0:
            print(
                f"{given.task} {method} batch {batch}: loss {loss:.3f}, accuracy {accuracy:.1%}",
                flush=True,
            )

    _, result = train_task(TASKS[given.task], method, seed, given.batches, show)
    with atomic_file(path) as part:
        part.write_text(json.dumps(result.to_dict()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
