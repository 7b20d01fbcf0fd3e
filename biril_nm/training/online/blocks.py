"""Small matrices for each neuron over a block of steps: products and adjoints of D.

An entry has the shape (steps, batch, neurons); None is zero. A block of K steps needs memory for K steps,
however many blocks there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biril_nm.training.online.neurons.neuron import Row

__all__ = ["Block", "adjoint", "dot", "matrix_vector", "over_steps", "products", "tail"]

Block = tuple[Row, ...]  # rows of D


def dot(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Tensor | None:
    """``sum_k left_k right_k``."""
    total: Tensor | None = None
    for a, b in zip(left, right):
        if a is not None and b is not None:
            total = a * b if total is None else torch.addcmul(total, a, b)
    return total


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def matrix_vector(matrix: Sequence[Row], vector: Row) -> Row:
    """``sum_j matrix_ij vector_j``."""
    return tuple(dot(row, vector) for row in matrix)


def _columns(matrix: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(zip(*matrix))


def _steps(row: Row, n_steps: int) -> list[Row]:
    """The row of each step."""
    nothing = (None,) * n_steps
    return list(zip(*(nothing if entry is None else entry.unbind(0) for entry in row)))


def _each(matrix: Sequence[Row], n_steps: int) -> list[tuple[Row, ...]]:
    """The matrix of each step."""
    return list(zip(*(_steps(row, n_steps) for row in matrix)))


def _stacked(found: Sequence[Tensor | None]) -> Tensor | None:
    like = next((entry for entry in found if entry is not None), None)
    if like is None:
        return None
    return torch.stack([torch.zeros_like(like) if e is None else e for e in found])


def over_steps(rows: Sequence[Row]) -> Row:
    """Rows of all steps as one row of tensors (steps, batch, neurons)."""
    return tuple(_stacked(entries) for entries in zip(*rows))


def products(d: Block) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """``D_K ... D_{t+1}`` for each step t of the block, and ``D_K ... D_1``."""
    like = next(e for row in d for e in row if e is not None)
    size = len(d)
    one = torch.ones_like(like[0])
    matrix: tuple[Row, ...] = tuple(
        tuple(one if i == j else None for j in range(size)) for i in range(size)
    )
    found = [matrix]
    for columns in reversed(_each(_columns(d), len(like))):
        matrix = tuple(tuple(dot(row, column) for column in columns) for row in matrix)
        found.append(matrix)
    each = tuple(over_steps([m[i] for m in found[-2::-1]]) for i in range(size))
    return each, matrix


def adjoint(d: Block, signals: Row) -> tuple[Row, Row]:
    """``a_t = l_t + D_{t+1}' a_{t+1}`` for each step of the block, and ``D_1' a_1``."""
    n_steps = len(next(e for e in signals if e is not None))
    carried: Row = (None,) * len(d)
    found = []
    columns = _each(_columns(d), n_steps)
    for signal, by in zip(reversed(_steps(signals, n_steps)), reversed(columns)):
        here = tuple(_plus(a, b) for a, b in zip(signal, carried))
        found.append(here)
        carried = matrix_vector(by, here)
    return over_steps(found[::-1]), carried


def tail(d: Block, f: Row, start: Row, alpha: float) -> tuple[Row, Row]:
    """``e_t = alpha D_t e_{t-1} + (1 - alpha) f_t`` for each step of the block, and the last of them."""
    n_steps = len(next(e for e in f if e is not None))
    damped = [tuple(None if e is None else alpha * e for e in row) for row in d]
    drive = tuple(None if e is None else (1 - alpha) * e for e in f)
    found, carried = [], start
    for rows, fresh in zip(_each(damped, n_steps), _steps(drive, n_steps)):
        passed = matrix_vector(rows, carried)
        carried = tuple(_plus(a, b) for a, b in zip(passed, fresh))
        found.append(carried)
    return over_steps(found), carried
