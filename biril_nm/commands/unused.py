"""Options that a command has, and that a source, target or engine has no use for: refused, not ignored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biril_nm.errors import ConfigError, bullet_list

if TYPE_CHECKING:
    from biril_nm.commands.options import LoweringChoice
    from biril_nm.commands.sources import LoadedFile

__all__ = ["LOWERS", "given", "refuse_unused", "unused_lowering", "unused_root"]

LOWERS = ("--dt", "--reset", "--if-integration", "--weight-bits", "--chip")


def given(group: Any) -> list[str]:
    """Options of a group that differ from their defaults, as they are written."""
    return [
        f"--{field.name.replace('_', '-')}"
        for field in fields(group)
        if getattr(group, field.name) != field.default
    ]


def unused_lowering(
    sources: Iterable[LoadedFile], lowering: LoweringChoice, uses: Collection[str] = ()
) -> list[str]:
    """What is wrong with options of the lowering where every source holds integers already.

    Args:
        sources: the files.
        lowering: the options.
        uses: those that the command uses for something else, too.
    """
    known = list(sources)
    flags = [flag for flag in given(lowering) if flag in LOWERS and flag not in uses]
    if not flags or any(source.graph is None for source in known):
        return []
    return [
        f"{', '.join(flags)}: '{known[0].path}' holds integers, which are not lowered again; give the "
        f"model.pt or x.nir that they were made from"
    ]


def unused_root(dataset: str | None, data_root: Path | None) -> list[str]:
    """What is wrong with a folder of data sets where no data set is read."""
    if dataset is not None or data_root is None:
        return []
    return ["--data-root: no data set is read; add --dataset"]


def refuse_unused(findings: Collection[str]) -> None:
    """Raise one error with all options that would change nothing.

    Raises:
        ConfigError: there is one.
    """
    if findings:
        raise ConfigError(
            bullet_list("these options would change nothing. Leave them out:", list(findings))
        )
