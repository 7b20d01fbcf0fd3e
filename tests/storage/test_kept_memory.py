"""Freed memory stays with the process while it is kept, and goes back to the system behind that."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import snntorch as snn
import torch

import biril_nm.training.loop
from biril_nm.storage import platform
from biril_nm.storage.platform import give_back_growth, keep_freed_memory, resident_bytes
from biril_nm.training import TrainConfig, fit
from tests.support import kept_memory

PAGES = kept_memory.N_BYTES >> 12


@pytest.fixture(scope="module")
def found() -> dict[str, int]:
    """What a new process measures: its memory has no holes that other tests have left."""
    if not resident_bytes() or not hasattr(platform.ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("only glibc keeps memory")
    command = [sys.executable, "-m", kept_memory.__name__]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, int] = json.loads(printed)
    if measured["usual"] < PAGES / 4:
        pytest.skip("memory comes in large pages here")
    return measured


def test_pages_are_given_once_while_memory_is_kept(found: dict[str, int]) -> None:
    assert found["kept twice"] < found["usual"] / 20
    assert found["kept once"] < found["usual"] / 20
    assert found["behind it"] > found["usual"] / 2


def test_what_is_kept_is_given_back_at_the_end(found: dict[str, int]) -> None:
    assert found["grown while kept"] > kept_memory.N_BYTES / 2
    assert found["grown behind it"] < kept_memory.N_BYTES / 4


def test_what_a_process_grows_by_is_given_back(found: dict[str, int]) -> None:
    assert found["grown"] > kept_memory.N_BYTES / 2
    assert found["given back"] < kept_memory.N_BYTES / 4
    assert found["still kept"] < found["usual"] / 20


def test_large_tensors_take_the_place_of_freed_ones(found: dict[str, int]) -> None:
    assert found["reused"] >= 6  # tensors whose blocks are torch's: 1, with glibc 2.36


@pytest.mark.parametrize("libc", [None, object()], ids=["another system", "another library"])
def test_other_systems_keep_nothing(libc: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform.sys, "platform", "linux" if libc else "darwin")
    monkeypatch.setattr(platform.ctypes, "CDLL", lambda name: libc)
    with keep_freed_memory():
        give_back_growth()  # each would fail on what stands for the library, if it called that


def test_training_on_the_cpu_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []

    @contextmanager
    def noted() -> Iterator[None]:
        inside.append(True)
        yield
        inside.append(False)

    monkeypatch.setattr(biril_nm.training.loop, "keep_freed_memory", noted)
    batch = (torch.rand(4, 6), torch.tensor([0, 1, 0, 1]))
    net = torch.nn.Sequential(torch.nn.Linear(6, 2), snn.Leaky(beta=0.9, init_hidden=True))
    fit(net, ([batch], None), TrainConfig(epochs=1, device="cpu", schedule="B"))
    assert inside == [True, False]
