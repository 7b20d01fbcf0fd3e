"""Machine code on disk that is damaged is compiled anew."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numba
import pytest

from biril_nm.hardware_sim.kernels import jit
from biril_nm.neurons import kernels as neurons
from biril_nm.storage import machine_code, platform
from biril_nm.studies.features import kernels as features

DAMAGE = {
    "nothing": lambda data: data,
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[:-10] + bytes([data[-10] ^ 4]) + data[-9:],
    "other": lambda data: b"\x80\x04" + bytes(500),
}


@pytest.fixture
def little(tmp_path, monkeypatch, kernel_folder):
    """Runs a kernel as a new process would: returns its result and whether its code was loaded."""
    (tmp_path / "little_kernel.py").write_text("def twice(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("little_kernel")

    def run(compile_kernel=jit.kernel):
        compiled = compile_kernel(module.twice)
        return compiled(21), sum(compiled.stats.cache_hits.values())

    yield run
    del sys.modules["little_kernel"]


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc", "*.sha256"])
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_code_is_compiled_anew(damage, kind, little, tmp_path):
    assert little() == (42, 0)
    files = list((tmp_path / "cache").rglob(kind))
    assert files
    for file in files:
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    result, loaded = little()
    assert result == 42
    assert loaded == (damage == "nothing") or (kind, damage) == ("*.nbi", "one bit")
    assert little() == (42, 1)


def test_code_without_a_digest_is_compiled_anew(little, tmp_path):
    assert little() == (42, 0)
    for file in (tmp_path / "cache").rglob("*.sha256"):
        file.unlink()
    assert little() == (42, 0)
    assert little() == (42, 1)


def test_a_cache_that_cannot_be_written_is_done_without(little, monkeypatch):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "_open_for_write", full)
    assert little() == (42, 0)
    assert little() == (42, 0)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders of users are private on Windows")
@pytest.mark.parametrize("access", ["mode", "owner"])
@pytest.mark.parametrize(
    "how",
    [jit.kernel, neurons.compiled.__wrapped__, features.loop],
    ids=["simulator", "neurons", "features"],
)
def test_a_cache_that_others_can_write_is_not_used(
    how, access, little, monkeypatch, tmp_path, caplog
):
    assert [little(how), little(how)] == [(42, 0), (42, 1)]
    (file,) = (tmp_path / "cache").rglob("*.nbi")
    if access == "mode":
        file.parent.chmod(0o777)
    else:
        real = machine_code.owner_of
        others = {file.parent: 1 + max(os.getuid(), real(Path(machine_code.__file__)))}
        monkeypatch.setattr(machine_code, "owner_of", lambda path: others.get(path) or real(path))
    machine_code.is_private.cache_clear()
    before = {path: path.stat().st_mtime_ns for path in file.parent.iterdir()}
    assert [little(how), little(how)] == [(42, 0), (42, 0)]
    assert {path: path.stat().st_mtime_ns for path in file.parent.iterdir()} == before
    assert "can be written by others" in caplog.text
    assert caplog.text.count("Set NUMBA_CACHE_DIR") == 1
    machine_code.is_private.cache_clear()


@pytest.fixture
def slow_saving(monkeypatch):
    """Several processes, as threads that each have a dispatcher, read the index before one writes it."""
    files = numba.core.caching.IndexDataCacheFile
    read = files._load_index

    def slowly(self):
        found = read(self)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(files, "_load_index", slowly)


def compile_at_once(module, *values):
    """The kernels after each was called with one value, all at the same time."""
    kernels = [jit.kernel(module.twice) for _ in values]
    threads = [threading.Thread(target=kernel, args=(x,)) for kernel, x in zip(kernels, values)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return kernels


def hits(kernels):
    return sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels)


def test_processes_compile_a_kernel_once(little, slow_saving):
    kernels = compile_at_once(sys.modules["little_kernel"], 21, 21, 21)
    assert hits(kernels) == 2


def test_kernels_compiled_at_once_do_not_overwrite_each_other(little, slow_saving):
    module = sys.modules["little_kernel"]
    assert hits(compile_at_once(module, 21, 2.5)) == 0
    again = [jit.kernel(module.twice) for _ in range(2)]
    assert [kernel(x) for kernel, x in zip(again, (21, 2.5))] == [42, 5.0]
    assert hits(again) == 2


@pytest.mark.parametrize("without", ["lock module", "folder", "locks"])
def test_without_a_lock_kernels_are_compiled_all_the_same(without, little, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    if without == "lock module":
        monkeypatch.setattr(platform, "fcntl", None)
    elif without == "folder":
        monkeypatch.setattr(machine_code, "LOCK", "/no/such/folder")
    else:
        monkeypatch.setattr(platform.fcntl, "flock", no_locks)
    assert little() == (42, 0)
    assert little() == (42, 1)


def test_a_process_that_holds_the_lock_for_ever_is_not_waited_for(little, monkeypatch, tmp_path):
    assert little() == (42, 0)
    monkeypatch.setattr(machine_code, "TURN_S", 0.2)
    with held_locks(tmp_path):
        assert little() == (42, 1)


def test_what_another_process_compiles_is_left_to_it(little, tmp_path):
    assert little() == (42, 0)
    for file in (tmp_path / "cache").rglob("*.nb?"):
        file.unlink()
    kernel = jit.kernel(sys.modules["little_kernel"].twice)
    with held_locks(tmp_path):
        machine_code.compile_untaken(kernel, (numba.int64,))
        assert not kernel.signatures
    machine_code.compile_untaken(kernel, (numba.int64,))
    assert kernel.signatures == [(numba.int64,)]
    again = jit.kernel(sys.modules["little_kernel"].twice)
    machine_code.compile_untaken(again, (numba.int64,))
    assert not again.signatures  # it is on disk
    assert gc.isenabled()


@contextmanager
def held_locks(folder):
    """Locks as another process holds them: of the index, and of a list of types."""
    locks = list((folder / "cache").rglob("*.lock"))
    assert len(locks) == 2
    with ExitStack() as held:
        for lock in locks:
            assert platform.try_lock(held.enter_context(lock.open("ab")))
        yield


def test_no_other_code_is_kept_on_disk():
    """Every cache of machine code goes through the one function that looks at its folder."""
    package = Path(machine_code.__file__).parents[1]
    found = [
        path.name
        for folder in (package, package / "export", package / "hardware_sim")
        for path in folder.rglob("*.py")
        if "cache=True" in path.read_text(encoding="utf-8")
    ]
    assert found == ["machine_code.py"]
