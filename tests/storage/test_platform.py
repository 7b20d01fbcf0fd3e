"""Systems without locks, process groups, fork, reserved blocks: another way, or a refusal by name."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from biril_nm.engines import get_engine
from biril_nm.errors import ConfigError
from biril_nm.export.lava import interpreters
from biril_nm.export.lava.bundle import run_lava
from biril_nm.recording.folder import RecordingFolder
from biril_nm.storage import atomic_directory, atomic_file, lock_folder, platform
from biril_nm.storage.machine_code import is_private
from tests.support.sources import MODULES, tree_of

# Modules and functions of POSIX, or of Linux alone, in the library of Python.
POSIX_MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "syslog",
    "termios", "tty",
}  # fmt: skip
NAMES_OF_OS = """
    WEXITSTATUS WIFEXITED WIFSIGNALED chown chroot confstr ctermid fchmod fchown fork forkpty getegid geteuid
    getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid killpg lchown lockf major
    makedev mkfifo mknod nice openpty pipe2 posix_fadvise posix_fallocate posix_spawn pread pwrite
    register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setpgid setsid setuid statvfs
    sync sysconf uname wait wait3 waitid O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC
"""
NAMES_OF_SIGNAL = "SIGALRM SIGCHLD SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 alarm setitimer"
POSIX_NAMES = {
    "os": frozenset(NAMES_OF_OS.split()),
    "signal": frozenset(NAMES_OF_SIGNAL.split()),
    "errno": {"EDQUOT", "ELOOP", "ENOLCK", "ENOTSUP", "EOPNOTSUPP"},
    "time": {"clock_gettime", "tzset"},
}
LINUX_FOLDERS = ("/proc/", "/sys/", "/dev/")
HOME = "storage.platform"
LOOKS_FIRST = {"training.precision"}  # whether /proc/cpuinfo exists


def foreign_names(tree: ast.Module) -> set[str]:
    """What a module uses that some systems lack: names of POSIX, and folders of Linux."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & POSIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & POSIX_MODULES
            names = {alias.name for alias in node.names}
            found |= names & POSIX_NAMES.get(str(node.module), set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} & POSIX_NAMES.get(node.value.id, set())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {folder for folder in LINUX_FOLDERS if node.value.startswith(folder)}
    return found


def test_one_module_knows_what_systems_lack():
    users = {module for module, path in MODULES.items() if foreign_names(tree_of(path))}
    assert users == {HOME} | LOOKS_FIRST


def test_what_systems_lack_is_found():
    tree = ast.parse("import os, fcntl\nfrom os import fork\nos.getuid()\nos.open()\nx = '/proc/x'")
    assert foreign_names(tree) == {"fcntl", "fork", "getuid", "/proc/"}


@pytest.fixture
def bare(monkeypatch):
    """The functions of the system that are missing on Windows, and msvcrt in their place."""
    for name in POSIX_NAMES["os"]:
        if name.islower() and name != "statvfs":  # shutil.disk_usage has another way there
            monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(platform, "fcntl", None)
    monkeypatch.setattr(platform, "sys", SimpleNamespace(platform="win32"))


class Msvcrt:
    """Its locks: a file that is locked raises PermissionError."""

    LK_NBLCK, LK_UNLCK = 1, 2

    def __init__(self):
        self.locked = False

    def locking(self, handle, mode, n_bytes):
        if mode == self.LK_NBLCK and self.locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.locked = mode == self.LK_NBLCK


@pytest.mark.parametrize("kind", ["fcntl", "msvcrt", "neither"])
def test_a_file_is_locked_by_what_there_is(kind, tmp_path, monkeypatch):
    if kind != "fcntl":
        monkeypatch.setattr(platform, "fcntl", None)
        monkeypatch.setattr(platform, "msvcrt", Msvcrt() if kind == "msvcrt" else None)
    file = tmp_path / "lock"
    with file.open("ab") as one, file.open("ab") as other:
        assert platform.try_lock(one)
        assert platform.try_lock(other) == (kind == "neither")
        platform.unlock(one)
        assert platform.try_lock(other)


def test_a_file_system_that_refuses_locks_is_not_a_held_lock(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(platform.fcntl, "flock", refuse)
    with (tmp_path / "lock").open("ab") as file, pytest.raises(PermissionError, match="denied"):
        platform.try_lock(file)


def test_a_system_without_posix_writes_and_counts(bare, tmp_path):
    assert platform.usable_cpus() == os.cpu_count()
    assert platform.memory_bytes() > 1 << 60
    assert platform.user_id() is None and is_private.__wrapped__(tmp_path)
    with atomic_file(tmp_path / "x") as part:
        part.write_text("whole")
    assert (tmp_path / "x").read_text() == "whole"
    with atomic_directory(tmp_path / "folder") as part:
        (part / "y").write_text("whole")
    assert (tmp_path / "folder" / "y").is_file()
    with lock_folder(tmp_path / "locked"):
        pass
    (tmp_path / "run").mkdir()
    folder = RecordingFolder(tmp_path / "run", (2, 3))
    array = folder.allocate("n", "s", 5)
    assert array.shape == (2, 3, 5) and not np.any(array)


def test_processes_end_without_groups(monkeypatch):
    monkeypatch.delattr(os, "killpg")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert platform.in_own_group() == {}
    process = subprocess.Popen(command, **platform.in_own_group())
    platform.end_group(process)
    assert process.returncode


def test_a_system_that_cannot_fork_refuses_lava_by_name(bare, monkeypatch):
    message = (
        "the system is Windows, which cannot fork the processes of Lava; expected Linux or macOS"
    )
    monkeypatch.delenv(interpreters.VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=message):
        interpreters.find_interpreter()
    assert "WSL" in str(get_engine("lava").why_not())
    with pytest.raises(run_lava.InputError, match="this system cannot fork"):
        run_lava.run(SimpleNamespace())


def test_error_numbers_that_a_system_lacks_are_left_out(monkeypatch):
    monkeypatch.delattr(errno, "EDQUOT")
    assert platform.codes("ENOSPC", "EDQUOT") == (errno.ENOSPC,)


def test_file_systems_that_cannot_reserve_blocks_are_written(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    with (tmp_path / "x").open("wb") as stream:
        assert platform.reserve(stream, 0, 100)
        monkeypatch.setattr(os, "posix_fallocate", refuse)
        assert not platform.reserve(stream, 0, 100)
        monkeypatch.delattr(os, "posix_fallocate")
        assert not platform.reserve(stream, 0, 100)
