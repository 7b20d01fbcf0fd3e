"""``biril lava-env``: an environment for Lava alone, for a Python that pip refuses lava-nc for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biril_nm.commands.console import print_json, print_progress, say
from biril_nm.commands.options import Force, Json
from biril_nm.errors import ConfigError, OutputExistsError
from biril_nm.export.lava.bundle.run_lava import IMPORTED, LAVA
from biril_nm.storage import keep_inputs

if TYPE_CHECKING:
    from biril_nm.export.lava.interpreters import Interpreter

__all__ = ["lava_env_command"]

OLD = (LAVA, "numpy<2")  # for the Python that lava-nc declares
DECLARED = (3, 10)
MAX_LINES = 5


def lava_env_command(
    python: Annotated[
        Path | None, typer.Option(help="Python 3.10 or later; by default the one that runs biril.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the environment.")] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="No environment: install Lava into the Python that runs biril, also where pip refuses it.",
        ),
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make an environment with Lava and without torch, and remember it.

    Parity checks, biril eval --backend lava and reports use it where Lava is not installed beside biril.
    BIRIL_LAVA_PYTHON names another one. With --here all of them run in one Python.

    Example: biril lava-env --python python3.10
    """
    from biril_nm.export.lava.interpreters import environment_folder, probe, remember

    if here:
        _refuse_beside_here(python, out, force)
        found, where = _install_here(), ""
    else:
        folder = (out or environment_folder()).absolute()
        inner = _make(folder, python, force)
        found = probe(inner)
        where = str(remember(inner))
    if json:
        print_json({"python": found.path, "versions": found.label, "remembered in": where})
        return
    say(found.label)
    if where:
        say(f"remembered in '{where}'; BIRIL_LAVA_PYTHON names another")


def _refuse_beside_here(*given: Any) -> None:
    found = [flag for flag, value in zip(("--python", "--out", "--force"), given) if value]
    if found:
        raise ConfigError(
            f"--here is given with {', '.join(found)}; expected it alone. Leave one of them out"
        )


def _install_here() -> Interpreter:
    """Lava beside biril, unless it is there."""
    from biril_nm.export.lava.interpreters import lava_is_here, probe

    if not lava_is_here():
        for arguments in _installs(sys.version_info[:2]):
            _call(_pip(sys.executable, arguments))
    return replace(probe(sys.executable), here=True)


def _make(folder: Path, python: Path | None, force: bool) -> str:
    """A new environment with Lava; the path of its Python. A step that fails leaves nothing."""
    base = _program(python)
    version = _python_version(base)
    keep_inputs([folder], [Path(base), Path(sys.executable)])
    if folder.exists():
        if not force:
            raise OutputExistsError(
                f"'{folder}' exists already. Pass --force to replace it, or --out to choose another folder"
            )
        if not _is_for_lava(folder):
            raise ConfigError(
                f"'{folder}' is not an environment for Lava alone; expected one. Choose another --out"
            )
        shutil.rmtree(folder)
    print_progress(f"making '{folder}' with Python {'.'.join(map(str, version))}")
    inner = str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    try:
        _call([base, "-m", "venv", str(folder)])
        for arguments in _installs(version):
            _call(_pip(inner, arguments))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return inner


def _is_for_lava(folder: Path) -> bool:
    """Whether it is an environment with Lava and without torch, as this command makes them."""
    places = [*folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages"]
    found = [any((place / name).is_dir() for place in places) for name in ("lava", "torch")]
    return (folder / "pyvenv.cfg").is_file() and found == [True, False]


def _pip(python: str, arguments: list[str]) -> list[str]:
    print_progress(f"pip install {' '.join(arguments)}")
    return [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]


def _installs(version: tuple[int, int]) -> list[list[str]]:
    if version == DECLARED:
        return [list(OLD)]
    return [list(IMPORTED), ["--no-deps", "--ignore-requires-python", LAVA]]


def _program(python: Path | None) -> str:
    if python is None:
        return sys.executable
    found = shutil.which(str(python.expanduser()))
    if found is None:
        raise ConfigError(
            f"--python is '{python}', which is not a program; expected a Python 3.10 or later"
        )
    return found


def _python_version(python: str) -> tuple[int, int]:
    code = "import sys; sys.stdout.write('%d %d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        major, minor = (int(part) for part in done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"--python is '{python}', which does not run as a Python: {error}"
        ) from error
    if (major, minor) < DECLARED:
        raise ConfigError(f"--python is Python {major}.{minor}; expected 3.10 or later")
    return major, minor


def _call(command: list[str]) -> None:
    """Run a step.

    Raises:
        ConfigError: it failed; with the last lines that it wrote.
    """
    from biril_nm.export.lava.interpreters import clean_environment

    try:
        subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment())
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        last = "\n".join(said.strip().splitlines()[-MAX_LINES:])
        raise ConfigError(f"{' '.join(command[1:5])} ... failed:\n{last}") from error
