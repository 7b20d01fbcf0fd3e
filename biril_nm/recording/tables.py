"""A recording as a table of pandas or a data set of xarray."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from biril_nm.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import pandas
    import xarray

    from biril_nm.recording.recording import NodeRecording, Recording

__all__ = ["to_pandas", "to_xarray"]


def to_pandas(recording: Recording, nodes: Iterable[str] | None) -> pandas.DataFrame:
    """One row for each node, step, sample and neuron; a column for each variable."""
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError("pandas", "tables", "make tables of recordings") from error
    frames = []
    for name, node in _chosen(recording, nodes).items():
        arrays = {k: np.asarray(a) for k, a in node.variables().items()}
        n_steps, batch = next(iter(arrays.values())).shape[:2]
        flat = {k: a.reshape(n_steps, batch, -1) for k, a in arrays.items()}
        size = next(iter(flat.values())).shape[2]
        levels = [[name], range(n_steps), range(batch), range(size)]
        index = pandas.MultiIndex.from_product(levels, names=("node", "step", "sample", "neuron"))
        frames.append(pandas.DataFrame({k: a.ravel() for k, a in flat.items()}, index=index))
    return pandas.concat(frames)


def to_xarray(recording: Recording, nodes: Iterable[str] | None) -> xarray.Dataset:
    """A variable ``NODE.s`` (u, v) of dimensions step, sample, and one for each axis of the node."""
    try:
        import xarray
    except ImportError as error:
        raise MissingDependencyError("xarray", "tables", "make data sets of recordings") from error
    found: dict[str, Any] = {}
    for name, node in _chosen(recording, nodes).items():
        for variable, array in node.variables().items():
            axes = (f"{name}.{i}" for i in range(array.ndim - 2))
            found[f"{name}.{variable}"] = (("step", "sample", *axes), np.asarray(array))
    return xarray.Dataset(found, attrs={k: str(v) for k, v in recording.meta.items()})


def _chosen(recording: Recording, nodes: Iterable[str] | None) -> dict[str, NodeRecording]:
    known = {name: node for name, node in recording.items() if node.variables()}
    wanted = list(known if nodes is None else nodes)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ConfigError(
            f"nodes are {', '.join(unknown) or 'none'}; expected some that were recorded: {', '.join(known)}"
        )
    return {name: known[name] for name in wanted}
