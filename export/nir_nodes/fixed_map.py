"""A linear map between any two shapes, stored by its nonzero weights.

NIR has matrices between vectors only. In files a :class:`FixedMap` is a ``Linear`` (or ``Affine``) whose
metadata ``in_shape`` and ``out_shape`` say between which shapes it stands; a Flatten in front makes its
input a vector for every reader, and then ``in_shape`` is the shape in front of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, IntArray, Shape
from biril_nm.errors import ConfigError

__all__ = ["IN_SHAPE", "OUT_SHAPE", "FixedMap", "is_fixed_map"]

IN_SHAPE, OUT_SHAPE = "in_shape", "out_shape"
# Entries of a matrix that a file holds.
DENSE_MAX = 1 << 27


@dataclass(eq=False)
class FixedMap(nir.NIRNode):  # type: ignore[misc]
    """``y = W x + b`` on flattened shapes in torch order.

    Attributes:
        weight: stored weights, row by row (CSR).
        columns: column of each stored weight.
        pointers: where each row begins.
        bias: one number per output; empty where there is none.
        in_shape: of x.
        out_shape: of y.
    """

    weight: FloatArray
    columns: IntArray
    pointers: IntArray
    bias: FloatArray
    in_shape: Shape
    out_shape: Shape

    def __post_init__(self) -> None:
        """Types of both sides."""
        self.input_type = {"input": np.array(self.in_shape)}
        self.output_type = {"output": np.array(self.out_shape)}

    @classmethod
    def of(
        cls, matrix: Any, bias: FloatArray | None, in_shape: Shape, out_shape: Shape
    ) -> FixedMap:
        """From a sparse matrix (out, in)."""
        rows = scipy.sparse.csr_matrix(matrix)
        rows.eliminate_zeros()
        rows.sort_indices()
        constant = np.zeros(0) if bias is None or not np.any(bias) else np.ravel(bias)
        return cls(
            rows.data, rows.indices, rows.indptr, constant, tuple(in_shape), tuple(out_shape)
        )

    @property
    def matrix(self) -> Any:
        """W as a CSR matrix."""
        shape = (int(np.prod(self.out_shape)), int(np.prod(self.in_shape)))
        return scipy.sparse.csr_matrix((self.weight, self.columns, self.pointers), shape=shape)

    def to_dict(self) -> dict[str, Any]:
        """As the node that files hold.

        Raises:
            ConfigError: the matrix is too large for a file.
        """
        rows, columns = self.matrix.shape
        if rows * columns > DENSE_MAX:
            raise ConfigError(
                f"a linear map from {self.in_shape} to {self.out_shape} is a matrix of {rows * columns} "
                f"entries; expected at most {DENSE_MAX} in a NIR file. Lower the graph in the same process "
                f"and save it as .loihi.npz"
            )
        shapes = {IN_SHAPE: np.array(self.in_shape), OUT_SHAPE: np.array(self.out_shape)}
        found = {
            "type": "Affine" if self.bias.size else "Linear",
            "weight": self.matrix.toarray(),
            "metadata": {**shapes, **self.metadata},
        }
        return {**found, "bias": self.bias} if self.bias.size else found


def is_fixed_map(node: Any) -> bool:
    """Whether a node is a :class:`FixedMap`, or was one before it was written."""
    return isinstance(node, FixedMap) or OUT_SHAPE in (node.metadata or {})
