"""One writer at a time; what a killed writer leaves is removed by the next one, and only that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from biril_nm.errors import OutputInUseError, StorageError
from biril_nm.storage import atomic_directory, atomic_file, lock_folder
from biril_nm.storage import paths as storage_paths
from biril_nm.storage.locks import LOCK, locked
from tests.support import killable

HOLD = """
import sys, time
from pathlib import Path
from biril_nm import storage
with getattr(storage, sys.argv[1])(sys.argv[2]) as part:
    if part.is_dir():
        (part / "half").write_bytes(bytes(1000))
    print(part, flush=True)
    time.sleep(600)
"""
WRITERS = ("atomic_file", "atomic_directory", "lock_folder")


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds an output, and return it with the path of its part."""
    started = []

    def start(context, path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, context, str(path)],
            stdout=subprocess.PIPE, text=True, env=killable.environment(),
        )  # fmt: skip
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("context", WRITERS)
def test_the_second_writer_is_refused_and_learns_who_the_first_is(
    context, holder, tmp_path, monkeypatch
):
    monkeypatch.setattr(storage_paths, "FILE_WAIT_S", 0.2)
    first, _ = holder(context, tmp_path / "out")
    before = names(tmp_path)
    write = getattr(sys.modules["biril_nm.storage"], context)
    message = (
        rf"out' is in use by process {first.pid} on host \S+ \(-c {context} .*out\), since 2.*UTC"
    )
    with pytest.raises(OutputInUseError, match=message), write(tmp_path / "out"):
        pytest.fail("two writers at once")
    assert names(tmp_path) == before


@pytest.mark.parametrize("context", WRITERS)
def test_a_killed_writer_blocks_nobody_and_its_part_goes(context, holder, tmp_path):
    first, part = holder(context, tmp_path / "out")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert part.exists()
    write = getattr(sys.modules["biril_nm.storage"], context)
    with write(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]
    assert context == "lock_folder" or not part.exists()


@pytest.mark.parametrize("context", ["atomic_file", "atomic_directory"])
def test_another_output_in_the_folder_removes_parts_of_the_dead_only(context, holder, tmp_path):
    dead, stale = holder(context, tmp_path / "dead")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    _, alive = holder(context, tmp_path / "alive")
    foreign = [".x.abcdefgh.part", ".x.biril-abc.part", "y.part", ".z.biril-ABCDEFGH.part"]
    for name in foreign:
        (tmp_path / name).write_text("not ours")
    with atomic_file(tmp_path / "new") as part:
        part.write_text("1")
    assert not stale.exists()
    assert alive.exists()
    assert set(foreign) < set(names(tmp_path))
    assert not (tmp_path / f".dead{LOCK}").exists()


def test_a_lock_that_a_killed_writer_left_is_removed_by_the_next_one(holder, tmp_path):
    (tmp_path / f".dead{LOCK}").write_text("{}")
    _, alive = holder("atomic_file", tmp_path / "alive")
    with atomic_file(tmp_path / "new") as part:
        assert names(tmp_path) == sorted([f".alive{LOCK}", f".new{LOCK}", alive.name, part.name])


def test_a_link_named_as_a_part_is_removed_and_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").write_text("1")
    (tmp_path / ".x.biril-abcdefgh.part").symlink_to(precious)
    with atomic_file(tmp_path / "new"):
        pass
    assert names(tmp_path) == ["new", "precious"] and names(precious) == ["a"]


def test_a_folder_moved_away_by_a_killed_writer_comes_back(tmp_path):
    old = tmp_path / ".out.biril-abcdefgh.old"
    (old / "out").mkdir(parents=True)
    (old / "out" / "a").write_text("1")
    with atomic_file(tmp_path / "other"):
        pass
    assert names(tmp_path) == ["other", "out"] and names(tmp_path / "out") == ["a"]


def test_a_swap_that_fails_keeps_the_old_folder(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("1")
    replace = storage_paths.Path.replace

    def fail(self, other):
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return replace(self, other)

    monkeypatch.setattr(storage_paths.Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt), atomic_directory(target):
        pass
    assert names(tmp_path) == ["out"] and names(target) == ["a"]


def test_long_names_fit(tmp_path):
    name = "n" * 250
    with atomic_file(tmp_path / name) as part:
        part.write_text("1")
    assert names(tmp_path) == [name]


def test_threads_exclude_each_other_too(tmp_path, monkeypatch):
    monkeypatch.setattr(
        storage_paths, "FILE_WAIT_S", killable.ROOM_S
    )  # a disk may be slow to flush
    inside, overlap = [], []

    def write():
        with atomic_file(tmp_path / "out") as part:
            inside.append(part)
            overlap.append(len(inside))
            part.write_text("x" * 1000)
            inside.remove(part)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlap == [1] * 6 and names(tmp_path) == ["out"]


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[" * 3000, "\x00" * 5000, "[]"])
def test_a_damaged_lock_file_gives_the_error_without_a_name(text, tmp_path):
    lock = tmp_path / "lock"
    with locked(lock, "output 'x'"):
        lock.write_text(text)
        with (
            pytest.raises(OutputInUseError, match="output 'x' is in use by another process"),
            locked(lock, "output 'x'"),
        ):
            pass


def test_what_a_lock_file_says_is_shown_on_one_line(tmp_path):
    lock = tmp_path / "lock"
    with locked(lock, "output 'x'"):
        lock.write_text('{"pid": 1, "host": "a\\nb", "command": "\\u001b[31m", "since": 2}')
        with (
            pytest.raises(OutputInUseError, match=r"process 1 on host a b \( \[31m\), since 2"),
            locked(lock, "output 'x'"),
        ):
            pass


def test_a_file_system_without_locks_is_written_with_a_warning(tmp_path, monkeypatch, caplog):
    import errno

    import filelock

    def acquire(self):
        raise OSError(errno.ENOSYS, "no flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    (tmp_path / ".a.biril-abcdefgh.part").write_text("perhaps alive")
    with atomic_file(tmp_path / "a") as part:
        part.write_text("1")
    assert names(tmp_path) == [".a.biril-abcdefgh.part", "a"]
    assert "has no file locks; do not write it twice at once" in caplog.text


def test_folders_are_locked_from_inside(tmp_path):
    with lock_folder(tmp_path / "a" / "b") as folder:
        assert names(folder) == [LOCK]
    assert names(tmp_path / "a" / "b") == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_lock_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / LOCK)
    expected = pytest.raises(StorageError, match="is not a regular file. Remove it")
    with expected, lock_folder(tmp_path):
        pass
