"""What all tests share: Lava where it can be, kernels that are compiled before a test runs them.

On Python 3.10 a missing Lava is a failure; elsewhere, where pip refuses it, a skip.
"""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.warm_kernels import compile_kernels

# One thread for torch and NumPy, before anything imports them: the networks here are so small that threads
# mostly wait for each other, which takes CPU time too. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch.compile forks no processes that would outlive a test.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Child processes keep the bytecode of the package; without it each of them compiles 200 modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Whatever the user's: code is not loaded from folders that a group can write, if it cannot write the sources.
os.umask(0o022)

HAS_LAVA = importlib.util.find_spec("lava") is not None
LAVA_PYTHON = (3, 10)
LAVA_PROCESSES = "lava.magma.runtime.message_infrastructure.multiprocessing"
# Begun first, so that no worker of pytest-xdist is left with one of them when the others are done. Stops and
# kills train: not both first, or two workers compile the kernels of training at once.
LONG_FILES = (
    "test_stops.py",
    "test_netx_parity.py",
    "test_kills.py",
    "test_sharding.py",
    "test_learning_parity.py",
    "test_cli.py",
    "test_lava_parity.py",
    "test_zoo.py",
    "test_fuzz.py",
    "test_packaging.py",
)
RUN_KERNELS = ("cli", "engines", "evaluation", "hardware_sim", "parity", "recording", "studies")


settings.register_profile("same each time", derandomize=True, database=None)
settings.load_profile("same each time")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    seed_all()
    # Lava sets the start method when it is imported, and fails where one is set.
    if LAVA_PROCESSES not in sys.modules:
        multiprocessing.set_start_method(None, force=True)
    if item.get_closest_marker("lava") is None or HAS_LAVA:
        return
    if sys.version_info[:2] == LAVA_PYTHON:
        pytest.fail('lava-nc is missing: pip install "biril-nm[lava]" (make venv)', pytrace=False)
    pytest.skip("lava-nc is not installed: biril lava-env --here (make venv)")


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector: pytest.Collector) -> None:
    """The same for layers in the lists of a test file, which is imported next."""
    if isinstance(collector, pytest.Module):
        seed_all()


def seed_all() -> None:
    """The same random numbers for a test whatever ran before it, which differs with the number of workers."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a small disk, which only root can mount (mount -t tmpfs)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@pytest.fixture
def kernel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for machine code, of this process and of those that it starts.

    numba reads its settings again when it compiles and the environment has changed, so both change together.
    """
    from numba import config

    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    with monkeypatch.context() as changed:
        changed.setenv("NUMBA_CACHE_DIR", str(folder))
        config.reload_config()
        yield folder
    config.reload_config()


@pytest.fixture(scope="session")
def warm_kernels() -> None:
    """Compile what simulations run, or load it from disk, once and in no test's time."""
    compile_kernels()


def pytest_collection_finish() -> None:
    """Leave what modules made to itself: the collector would look through all of it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if " at 0x" in item.nodeid:  # another name in each process: pytest-xdist would stop
            raise pytest.UsageError(f"the name of '{item.nodeid}' holds an address; give it ids")
        if item.path.parent.name in RUN_KERNELS and isinstance(item, pytest.Function):
            item.fixturenames.insert(0, "warm_kernels")
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {name: i for i, name in enumerate(LONG_FILES)}
        items.sort(key=lambda item: place.get(item.path.name, len(place)))
