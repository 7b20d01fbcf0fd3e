"""All that is measured, in one run: the simulator against its peers, learning, large networks, starts.

    make bench                                            # about 20 minutes; writes docs/benchmarks.md
    python benchmarks/simulator.py --quick                # tests the scripts
    python benchmarks/simulator.py --only dense sessions  # some sections, printed

Each section runs in a process of its own (``--quick``: all in one), in the order of ``SECTIONS``. What
a section finds unequal ends the run. Sections whose packages are not installed are left out, and the page
says so.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import HERE, UNWANTED, in_child, installed, say
from page import load, page, write_page
from section import Section, Size, timed

BUDGET_S = 25 * 60


@dataclass(frozen=True)
class Plan:
    """A section of the run.

    Attributes:
        module: its file.
        seconds: about what it takes on two cores.
        function: that gives the section.
        needs: packages without which there is nothing to measure.
    """

    module: str
    seconds: int
    function: str = "section"
    needs: tuple[str, ...] = ()


SECTIONS = {
    "dense": Plan("inference", 90, "dense"),
    "conv": Plan("inference", 120, "conv"),
    "sessions": Plan("sessions", 20),
    "stream": Plan("stream", 75),
    "forms": Plan("forms", 25, needs=("h5py",)),
    "learning": Plan("learning", 45),
    "onchip": Plan("onchip_deep", 40),
    "lowering": Plan("large", 90, "lower_section", ("snntorch",)),
    "mapping": Plan("large", 150, "map_section", ("snntorch",)),
    "sparse": Plan("sparse", 90),
    "starting": Plan("starting", 150, needs=("snntorch",)),
    "torch-int": Plan("torch_int", 30, needs=("snntorch",)),
    "scale-out": Plan("scale_out", 230, needs=("snntorch",)),
    "adaptation": Plan("adaptation_steps", 60, needs=("snntorch", "sklearn")),
    "training": Plan("integer_training", 20, needs=("snntorch",)),
    "dense products": Plan("dense_form", 30, needs=("snntorch",)),
    "resets": Plan("resets", 20),
    "roofline": Plan("roofline", 15),
    "scaling": Plan("scaling", 15),
}


def part(name: str, quick: bool, threads: int, more: Sequence[Any] = ()) -> dict[str, Any]:
    """A section as plain data; runs in a process of its own."""
    plan = SECTIONS[name] if name in SECTIONS else Plan("mnist_pictures", 10)
    make = getattr(importlib.import_module(plan.module), plan.function)
    return asdict(timed(lambda size: make(size, *more), Size(quick, threads)))


def run(names: Sequence[str], quick: bool, threads: int) -> dict[str, Section]:
    """The sections one after the other."""
    found: dict[str, Section] = {}
    left = sum(SECTIONS[name].seconds for name in names)
    for name in names:
        plan = SECTIONS[name]
        missing = [package for package in plan.needs if not installed(package)]
        say(f"{name}: about {plan.seconds} s of {left} left" if not quick else name)
        left -= plan.seconds
        if missing:
            found[name] = Section(name, (), f"Not measured: {', '.join(missing)} is not installed.")
            continue
        found[name] = Section.of(
            part(name, quick, threads) if quick else in_child(part, name, quick, threads)
        )
        say(f"{name}: took {found[name].seconds:.0f} s")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the page, and write it if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: a test, not a measurement"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of benchmarks.md (default: docs, of a whole run)"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="some sections alone")
    parser.add_argument(
        "--mnist-graph", type=Path, help="x.loihi.npz: also time its MNIST test set"
    )
    parser.add_argument("--data-root", type=Path, help="folder of MNIST (default: BIRIL_DATA)")
    options = parser.parse_args(arguments)
    for name in UNWANTED:
        os.environ.pop(name, None)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads take time from others
    before, began = load(), time.perf_counter()
    found = run(options.only or list(SECTIONS), options.quick, options.threads)
    if options.mnist_graph:
        root = None if options.data_root is None else str(options.data_root)
        more = [str(options.mnist_graph), root]
        found["mnist"] = Section.of(in_child(part, "mnist", options.quick, options.threads, more))
    seconds = time.perf_counter() - began
    text = page(found, before, seconds, options.quick)
    whole = not options.quick and not options.only
    folder = options.out or (HERE.parents[1] / "docs" if whole else None)
    print(text)
    if folder is not None:
        write_page(text, found, folder)
    if seconds > BUDGET_S:
        say(f"the run took {seconds / 60:.0f} minutes; expected at most {BUDGET_S / 60:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
