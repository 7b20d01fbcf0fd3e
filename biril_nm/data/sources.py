"""What a data set is: one record, from which loading, help texts, errors and the documentation follow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biril_nm.data.splits import DataSet
from biril_nm.errors import ConfigError

__all__ = ["DATA_ROOT_VARIABLE", "DataSource", "Option", "Request", "missing", "parse_name"]

DATA_ROOT_VARIABLE = "BIRIL_DATA"
MAX_OPTION = 1 << 20


@dataclass(frozen=True)
class Option:
    """A setting of a data set, written ``name:option=value``.

    Attributes:
        default: its value where it is not given; its type is the type of the option.
        text: what it does.
        choices: the values that it takes; empty: whole numbers from ``low``, or any text.
        low: smallest number.
    """

    default: int | str
    text: str
    choices: tuple[str, ...] = ()
    low: int = 1

    def parse(self, name: str, value: str) -> int | str:
        """The value that a text means.

        Raises:
            ConfigError: the text is not a value of this option.
        """
        if self.choices:
            if value not in self.choices:
                raise ConfigError(
                    f"data set option {name} is '{value:.60}'; expected {' or '.join(self.choices)}"
                )
            return value
        if isinstance(self.default, str):
            return value
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 9 else -1
        if not self.low <= number <= MAX_OPTION:
            raise ConfigError(
                f"data set option {name} is '{value:.60}'; expected a whole number from {self.low} to "
                f"{MAX_OPTION}"
            )
        return number


@dataclass(frozen=True)
class Request:
    """What is loaded.

    Attributes:
        source: the data set.
        root: folder of the data sets; None where none is given.
        seed: of the division, where the set has none.
        options: values of the source's options.
        download: whether the library may fetch what is missing.
    """

    source: DataSource
    root: Path | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    download: bool = False

    def folder(self) -> Path:
        """The folder of the data sets.

        Raises:
            ConfigError: none is given.
        """
        if self.root is None:
            raise ConfigError(
                f"data set '{self.source.name}' needs a folder: pass data_root (--data-root) or set "
                f"{DATA_ROOT_VARIABLE}. {self.source.expected('ROOT')}"
            )
        return self.root


@dataclass(frozen=True)
class DataSource:
    """A data set by name.

    Attributes:
        name: registry name.
        title: what it is.
        load: makes the data set.
        files: files below the folder of the data sets; empty: it is built in and has no folder.
        get: where it comes from.
        shape: shape of one sample, of one step where it has several; "" where files decide.
        classes: number of classes; 0 where files decide.
        options: settings by name.
        downloads: whether the library can fetch it.
    """

    name: str
    title: str
    load: Callable[[Request], DataSet]
    files: str = ""
    get: str = ""
    shape: str = ""
    classes: int = 0
    options: Mapping[str, Option] = field(default_factory=dict)
    downloads: bool = False

    def expected(self, root: str) -> str:
        """Which files are expected below ``root``, and how to get them."""
        fetch = ", or let --download (download=True) fetch it" if self.downloads else ""
        return f"Expected files: {self.files.replace('ROOT', root)}. {self.get}{fetch}"


def missing(request: Request, found: str = "") -> ConfigError:
    """The error for files that are not there: what to get, and where to put it."""
    source, root = request.source, request.folder()
    reason = f" ({found})" if found else ""
    return ConfigError(f"no {source.title} in '{root}'{reason}. {source.expected(os.fspath(root))}")


def parse_name(text: str, sources: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Name and option texts of ``name[:option=value[,option=value...]]``.

    Raises:
        ConfigError: options that are not of this form, or an option twice.
    """
    name, colon, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",")] if colon else []
    if colon and not all(key and equals and value for key, equals, value in pairs):
        raise ConfigError(
            f"data set is '{text:.80}'; expected NAME or NAME:option=value,option=value, with a NAME of "
            f"{', '.join(sources)}"
        )
    options = {key: value for key, _, value in pairs}
    if len(options) < len(pairs):
        raise ConfigError(
            f"data set is '{text:.80}', with an option twice; expected each option once. Leave one out"
        )
    return name, options
