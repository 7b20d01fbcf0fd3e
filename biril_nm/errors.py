"""Errors of biril-nm: one tree, so that callers and the command line can tell them from bugs.

Every message names the thing (node, file, argument), what was found, what is allowed, and the
way out. Where several findings belong together they are collected and raised once.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BirilError",
    "ConfigError",
    "DivergedError",
    "FileFormatError",
    "MissingDependencyError",
    "OutputExistsError",
    "OutputInUseError",
    "ParityError",
    "RangeError",
    "StorageError",
    "UnsupportedNodeError",
    "WorkerError",
    "bullet_list",
]


class BirilError(Exception):
    """Base class of all errors that biril-nm raises on purpose."""


class ConfigError(BirilError):
    """A setting, argument or combination of settings that has no meaning."""


class DivergedError(BirilError):
    """A training whose loss or weights are no longer finite."""


class FileFormatError(BirilError):
    """A file that is damaged, hostile, too large, or not of the expected kind."""


class OutputExistsError(BirilError):
    """An output path that is already there, without permission to overwrite it."""


class OutputInUseError(BirilError):
    """An output that another process is writing."""


class StorageError(ConfigError):
    """A disk that has no room for what should be written."""


class UnsupportedNodeError(BirilError):
    """A layer or node whose meaning the next stage cannot express."""


class RangeError(BirilError):
    """An integer that does not fit the register that should hold it."""


class ParityError(BirilError):
    """Two engines that should agree and do not."""


class WorkerError(BirilError):
    """A process that should do a part of the work ended without doing it."""


class MissingDependencyError(BirilError, ImportError):
    """An optional package that this call needs is not installed, or cannot be imported; an ImportError too.

    Args:
        package: import name of the missing package.
        extra: name of the biril-nm extra that installs it; empty where the package itself does.
        purpose: what it is needed for, as the end of the sentence "... is needed to".
        command: what installs it, where pip install does not.
        reason: why it cannot be imported, where it is installed.
    """

    def __init__(
        self, package: str, extra: str, purpose: str, command: str = "", reason: str = ""
    ) -> None:
        what = f'"biril-nm[{extra}]"' if extra else package
        state = f"cannot be imported ({reason})" if reason else "is not installed"
        super().__init__(
            f"package '{package}' is needed to {purpose} and {state}. "
            f"Install it {'again ' if reason else ''}with: {command or f'pip install {what}'}"
        )
        self.package = package
        self.extra = extra
        self._given = (package, extra, purpose, command, reason)

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, ...]]:
        """Made again from what it was given, as in a process that hands it over."""
        return type(self), self._given


def bullet_list(headline: str, findings: Sequence[str]) -> str:
    """Join a headline and its findings into one readable message."""
    return "\n".join([headline, *(f"  - {finding}" for finding in findings)])
