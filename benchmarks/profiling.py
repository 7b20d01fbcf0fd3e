"""Where time goes, in one line of text: the reason beside a target that is missed."""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SHOWN = 3


def hottest(work: Callable[[], Any], shown: int = SHOWN) -> str:
    """The functions that took most time themselves, with their shares."""
    profile = cProfile.Profile()
    profile.runcall(work)
    stats: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(each[2] for each in stats.values()) or 1.0
    most = sorted(stats.items(), key=lambda item: -item[1][2])[:shown]
    parts = [f"{_place(*where)} {each[2] / total:.0%}" for where, each in most]
    return f"own time of functions: {', '.join(parts)}"


def _place(path: str, line: int, name: str) -> str:
    del line
    if "acquire" in name:
        return "waiting for threads"
    return f"`{name}`" if path.startswith("~") else f"`{Path(path).stem}.{name}`"


def imports(arguments: Sequence[str], shown: int = SHOWN) -> str:
    """The packages whose import takes most of the start of ``python ARGUMENTS``."""
    call = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    spent: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        cells = line.removeprefix("import time:").split("|")
        if len(cells) == 3 and cells[0].strip().isdigit():
            spent[cells[2].strip().split(".")[0]] += int(cells[0])
    parts = [f"{name} {us / 1e6:.2f} s" for name, us in spent.most_common(shown)]
    total = f"{sum(spent.values()) / 1e6:.2f} s"
    return f"imports, traced one by one, take {total}, of which {', '.join(parts)}"


def compilations(work: Callable[[], Any]) -> tuple[int, float, str]:
    """Functions that numba compiled, seconds of those that Python calls, and the longest of them."""
    from numba.core import event

    with event.install_recorder("numba:compile") as recorder:
        work()
    spent: Counter[str] = Counter()
    began: list[float] = []
    count = 0
    for stamp, each in recorder.buffer:
        if each.is_start:
            began.append(stamp)
            continue
        start = began.pop()
        count += 1
        if not began:  # the others are compiled within these
            spent[each.data["dispatcher"].py_func.__name__] += stamp - start
    longest = ", ".join(f"`{name}` {s:.1f} s" for name, s in spent.most_common(SHOWN))
    return count, sum(spent.values()), longest


def least(work: Callable[[], Any], times: int = 5) -> float:
    """The shortest CPU seconds of some calls, after a first one."""
    work()
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
