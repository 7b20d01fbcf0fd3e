"""Accuracy over a data set, in one process or in shards."""

from __future__ import annotations

from biril_nm.evaluation.accuracy import (
    EvaluationOptions,
    GraphEvaluation,
    ShardCounts,
    evaluate_graph,
    evaluate_shard,
    predict,
    single_readout,
)

__all__ = [
    "EvaluationOptions",
    "GraphEvaluation",
    "ShardCounts",
    "evaluate_graph",
    "evaluate_shard",
    "predict",
    "single_readout",
]
