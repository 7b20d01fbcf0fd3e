"""A process that damages and reads files for :mod:`tests.fuzz.driver`: one line in, one line out.

In: the name of a reader. Out: ``ready``, once it has read good files.
In: ``SEED INDEX``, for the reader of before. Out: a JSON object with the outcome: "accepted", "refused", or
"escaped" and the traceback. The process ends itself when a file takes more CPU time than it may.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tests.fuzz.readers import READERS
from tests.fuzz.registry import Reader

CPU_SECONDS = 20
START_CPU_SECONDS = 900  # kernels may have to be compiled
DATA_BYTES = 8 << 30
PEAK_BYTES = 2 << 30


def prepare(reader: Reader, samples: list[Path], folder: Path, seed: int, index: int) -> Path:
    """The damaged file of a seed and an index."""
    random = np.random.default_rng([seed, index])
    source = samples[int(random.integers(len(samples)))]
    target = folder / reader.name
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif target.is_symlink() or target.exists():
        target.unlink()
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    reader.damage(target, random)
    return target


def read(reader: Reader, path: Path) -> dict[str, str]:
    """What comes of reading a file."""
    from biril_nm.errors import BirilError

    try:
        reader.read(path)
    except BirilError as error:
        text = str(error)
        return {"outcome": "refused" if text.strip() else "escaped", "why": text[:200]}
    except BaseException:
        return {"outcome": "escaped", "why": traceback.format_exc()[-3000:]}
    return {"outcome": "accepted"}


def limit_cpu(seconds: float) -> None:
    """End this process after some more seconds of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime) + int(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_samples(reader: Reader, folder: Path) -> list[Path]:
    """Good files; reading them imports and compiles what the reader needs."""
    limit_cpu(START_CPU_SECONDS)
    folder.mkdir()
    samples = reader.samples(folder)
    for sample in samples:
        reader.read(sample)
    return samples


def answers_to(lines: Iterable[str], scratch: Path) -> Iterator[str]:
    """The answer to each line."""
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) == 1:
            reader = READERS[words[0]]
            samples = make_samples(reader, scratch / str(number))
            before = peak_bytes()
            yield "ready"
            continue
        seed, index = map(int, words)
        limit_cpu(CPU_SECONDS)
        answer = read(reader, prepare(reader, samples, scratch / "case", seed, index))
        if peak_bytes() - before > PEAK_BYTES:
            answer = {"outcome": "escaped", "why": f"took {peak_bytes() - before} bytes"}
            before = peak_bytes()
        yield json.dumps(answer)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "case").mkdir()
        for answer in answers_to(sys.stdin, Path(scratch)):
            print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
