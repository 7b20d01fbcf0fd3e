"""Which Python runs Lava: this one, or another that has lava-nc.

``BIRIL_LAVA_PYTHON`` names one, and comes first. Then comes Lava in this interpreter, then the environment
that ``biril lava-env`` has made and remembered.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from biril_nm.errors import BirilError, ConfigError, MissingDependencyError
from biril_nm.storage import atomic_file, parse_json, read_bytes
from biril_nm.storage.platform import can_fork, system_name

__all__ = [
    "LAVA_COMMAND",
    "VARIABLE",
    "Interpreter",
    "clean_environment",
    "environment_folder",
    "find_interpreter",
    "lava_is_here",
    "probe",
    "remember",
]

VARIABLE = "BIRIL_LAVA_PYTHON"
# lava-nc 0.10.0 declares Python 3.10.
IN_PLACE = sys.version_info < (3, 11)
LAVA_COMMAND = (
    'pip install "biril-nm[lava]"'
    if IN_PLACE
    else "biril lava-env (an environment for Lava alone; pip refuses lava-nc on Python 3.11 and later)"
)
REMEMBERED = "lava-python.txt"
MAX_PATH_BYTES = 4096
PROBE_S = 60.0
PROBE = """
import json, platform
from importlib.metadata import version
import numpy
facts = {"python": platform.python_version(), "numpy": numpy.__version__, "lava": version("lava-nc")}
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that has Lava.

    Attributes:
        path: its executable.
        python, numpy, lava: versions.
        here: whether it is the one that asks.
    """

    path: str
    python: str
    numpy: str
    lava: str
    here: bool = False

    @property
    def label(self) -> str:
        """What recordings and reports call it."""
        where = "" if self.here else ", another process"
        return f"lava-nc {self.lava} (Python {self.python}, NumPy {self.numpy}{where})"


def lava_is_here() -> bool:
    """Whether this interpreter has Lava."""
    return importlib.util.find_spec("lava") is not None


def find_interpreter() -> Interpreter | None:
    """The other Python that runs Lava; None for this one.

    Raises:
        ConfigError: ``BIRIL_LAVA_PYTHON`` names no Python with Lava, or this system cannot run it.
        MissingDependencyError: there is no Lava here, nor elsewhere.
    """
    if not can_fork():
        raise ConfigError(
            f"the system is {system_name()}, which cannot fork the processes of Lava; expected Linux or "
            f"macOS. Leave lava out, or run biril under Linux (on Windows: WSL)"
        )
    named = os.environ.get(VARIABLE)
    if named:
        return probe(named)
    if lava_is_here():
        return None
    remembered = _remembered()
    if remembered is None:
        raise _missing()
    try:
        return probe(remembered)
    except BirilError as error:
        raise _missing(f". Of the one that it made: {error}") from error


def _missing(state: str = "") -> MissingDependencyError:
    return MissingDependencyError("lava", "lava", "run Lava Processes", LAVA_COMMAND + state)


@cache
def probe(path: str) -> Interpreter:
    """Versions of a Python and of its Lava.

    Raises:
        ConfigError: it is not a Python, or has no lava-nc or numpy.
    """
    where = Path(path).expanduser()
    if not (where.is_file() and os.access(where, os.X_OK)):
        raise ConfigError(
            f"the Python for Lava is '{path}', which is not a program; expected the path of a Python with "
            f"lava-nc. Correct {VARIABLE}, or run biril lava-env"
        )
    command = [str(where.absolute()), "-c", PROBE]
    try:
        with tempfile.TemporaryDirectory() as empty:  # Python imports from the working folder first
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=PROBE_S,
                check=False,
                env=clean_environment(),
                cwd=empty,
            )
        found = parse_json(done.stdout, f"what '{path}' says")
        return Interpreter(
            str(where.absolute()), str(found["python"]), str(found["numpy"]), str(found["lava"])
        )
    except (
        BirilError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        subprocess.TimeoutExpired,
    ) as error:
        reason = (
            (done.stderr.strip().splitlines() or [""])[-1] if "done" in locals() else str(error)
        )
        raise ConfigError(
            f"the Python for Lava '{path}' does not have lava-nc and numpy ({reason:.200}). Correct "
            f"{VARIABLE}, or run biril lava-env"
        ) from error


def clean_environment() -> Mapping[str, str]:
    """The environment without what leads another Python to packages of this one."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in ours}


def environment_folder() -> Path:
    """Where ``biril lava-env`` makes its environment by default."""
    return Path(platformdirs.user_data_dir("biril-nm", appauthor=False)) / "lava-env"


def _memory() -> Path:
    return environment_folder().with_name(REMEMBERED)


def remember(python: str | Path) -> Path:
    """Let :func:`find_interpreter` know a Python from now on; returns the file that says so."""
    file = _memory()
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as part:
        part.write_bytes(os.fsencode(f"{python}\n"))
    return file


def _remembered() -> str | None:
    file = _memory()
    if not file.is_file():
        return None
    try:
        return os.fsdecode(read_bytes(file, MAX_PATH_BYTES)).strip() or None
    except (BirilError, UnicodeDecodeError):
        return None
