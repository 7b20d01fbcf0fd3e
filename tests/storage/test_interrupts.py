"""A signal that stops the program at any line of what writes outputs leaves nothing behind."""

from __future__ import annotations

import linecache
import os
import signal
import sys
import threading

import pytest

from biril_nm.storage import atomic_directory, atomic_file, lock_folder, locks, paths, signals
from biril_nm.storage.signals import UNINTERRUPTED, stop

SOURCES = {module.__file__ for module in (locks, paths, signals)}
BEFORE = ("with UNINTERRUPTED:", "_state.depth += 1")  # the moment before a block protects


class Interrupt:
    """Stops the program before a line of :data:`SOURCES`, counted as they run."""

    def __init__(self, line):
        self.left, self.came = line, False

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in SOURCES:
            return None
        if event == "line":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            self.left -= text not in BEFORE
            if not self.left and not self.came:
                self.came = True
                stop(KeyboardInterrupt())
        return self


def write_file(folder):
    with atomic_file(folder / "out") as part:
        part.write_text("x")


def write_folder(folder):
    with atomic_directory(folder / "out") as part:
        (part / "x").write_text("x")


def write_run(folder):
    with lock_folder(folder):
        (folder / "out").write_text("x")


@pytest.mark.parametrize("write", [write_file, write_folder, write_run])
def test_an_interrupt_at_any_line_leaves_no_part_and_no_lock(write, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    write(tmp_path)
    before, line, came = sys.gettrace(), 0, True
    while came:
        line += 1
        interrupt = Interrupt(line)
        try:
            sys.settrace(interrupt)
            write(tmp_path)
        except KeyboardInterrupt:
            assert interrupt.came
        finally:
            sys.settrace(before)
            came = interrupt.came
        assert [path.name for path in tmp_path.iterdir()] == ["out"], line
    assert line > 40


@pytest.fixture
def ctrl_c():
    """As in the foreground; a program in the background starts without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_ctrl_c_waits_until_the_outermost_block_ends(ctrl_c):
    done = []
    with pytest.raises(KeyboardInterrupt):
        with UNINTERRUPTED:
            with UNINTERRUPTED:
                ctrl_c()
            done.append("inner")
        done.append("outer")
    assert done == ["inner"]
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    with UNINTERRUPTED:
        pass


def test_other_threads_hold_up_no_signal(ctrl_c):
    opened, end = threading.Event(), threading.Event()

    def hold():
        with UNINTERRUPTED:
            opened.set()
            end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait(60)
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    end.set()
    thread.join()
