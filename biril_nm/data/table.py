"""The data sets and the changes of augmentation as tables in Markdown, for the docs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from biril_nm.data.augmentation import CHANGES
from biril_nm.data.datasets import DATASETS
from biril_nm.data.sources import DataSource

__all__ = ["changes_table", "data_table", "options_table"]

SETS = ("name", "data set", "one sample", "classes", "files", "where it comes from")
OPTIONS = ("data set", "option", "default", "takes", "what it does")
CHANGE = ("text", "what it does", "made by")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _sources() -> list[DataSource]:
    return [source for source in DATASETS.values() if isinstance(source, DataSource)]


def data_table() -> str:
    """One row per data set."""
    return _table(SETS, map(_row, _sources()))


def _row(source: DataSource) -> tuple[str, ...]:
    files = source.files.replace("ROOT/", "")
    return (
        f"`{source.name}`",
        source.title,
        source.shape or "as the files",
        str(source.classes or "as the folders"),
        f"`{files.split(' (')[0]}`" if files else "built in",
        source.get + (", or `--download`" if source.downloads else ""),
    )


def options_table() -> str:
    """One row per option of a data set."""
    rows = [
        (
            f"`{source.name}`",
            f"`{name}`",
            f"`{option.default}`",
            " or ".join(option.choices) or f"{option.low} or more",
            option.text,
        )
        for source in _sources()
        for name, option in source.options.items()
    ]
    return _table(OPTIONS, rows)


def changes_table() -> str:
    """One row per change of augmentation, with its defaults."""
    rows = [
        (
            f"`{':'.join((name, *(f'{n:g}' for n in change.numbers.values())))}`",
            f"{change.text} ({', '.join(change.numbers)})"
            + ("; pictures only" if change.pictures_only else ""),
            "torchvision" if change.transform else "biril-nm",
        )
        for name, change in CHANGES.items()
    ]
    return _table(CHANGE, rows)
