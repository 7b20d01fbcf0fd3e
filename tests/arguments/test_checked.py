"""Arguments held against annotations: what is changed, what is refused, and with which words."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Count, Integers, Numbers, Seed, checked, kinds, shown, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
from biril_nm.loihi import SignMode

if TYPE_CHECKING:
    from torch import nn


@checked
def take(
    whole: int = 0,
    part: float = 0.0,
    flag: bool = False,
    path: str | Path | None = None,
    names: Iterable[str] | str = (),
    sizes: tuple[int, ...] = (),
    pair: tuple[int, int] = (0, 0),
    inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
    array: NDArray[Any] | None = None,
    count: Count = 1,
    seed: Seed = 0,
    integers: Integers = 0,
    numbers: Numbers = 0,
    mode: SignMode = SignMode.MIXED,
    choice: Literal["a", "b"] = "a",
    net: nn.Module | None = None,
    graphs: Sequence[LoihiGraph] = (),
) -> Mapping[str, Any]:
    """What arrives."""
    return dict(locals())


@pytest.mark.parametrize(
    ("key", "value", "arrives"),
    [
        ("whole", np.int16(3), 3),
        ("whole", np.array(3), 3),
        ("part", np.float32(0.5), 0.5),
        ("part", 2, 2),
        ("flag", np.bool_(True), True),
        ("path", "a.npz", Path("a.npz")),
        ("choice", np.str_("b"), "b"),
        ("names", "s", "s"),
        ("names", ["s", "u"], ["s", "u"]),
        ("sizes", [np.int64(2), 3], (2, 3)),
        ("sizes", np.array([2, 3]), (2, 3)),
        ("seed", (1 << 63) - 1, (1 << 63) - 1),
        ("mode", "inhibitory", SignMode.INHIBITORY),
        ("inputs", {"in": [1, 2]}, {"in": [1, 2]}),
        ("integers", [1.0, 2.0], [1.0, 2.0]),
        ("graphs", range(0), range(0)),
    ],
)
def test_what_fits_arrives_as_a_plain_value(key, value, arrives):
    found = take(**{key: value})[key]
    assert found == arrives
    assert type(found) is type(arrives)


def test_lists_arrive_as_arrays_and_iterators_unread():
    assert take(array=[[1, 2]])["array"].shape == (1, 2)
    assert list(take(names=iter("su"))["names"]) == ["s", "u"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("whole", 2.0, "whole is 2.0; expected an integer"),
        ("whole", True, "whole is True; expected an integer"),
        ("part", float("nan"), "part is nan; expected a number"),
        ("part", "1", "part is '1'; expected a number"),
        ("flag", 1, "flag is 1; expected True or False"),
        ("path", "", "path is ''; expected a path or None"),
        ("path", "a\0b", r"path is 'a\\x00b'; expected a path"),
        ("path", "a" * 300, "path is 'aaa.*; expected a path"),
        ("names", [1], r"names is \[1\]; expected a sequence \(a text, ...\) or a text"),
        ("sizes", 3, r"sizes is 3; expected a sequence \(an integer, ...\)"),
        ("pair", (1, 2, 3), r"pair is \(1, 2, 3\); expected 2 values \(an integer, an integer\)"),
        ("inputs", "x.npz", "inputs is 'x.npz'; expected an array of numbers or a dict"),
        ("inputs", {"in": "x"}, "inputs is a dict; expected"),
        ("array", [[1], [1, 2]], "array is a list; expected an array of numbers"),
        (
            "array",
            np.array([None]),
            r"array is a ndarray of shape \(1,\) and type object; expected",
        ),
        ("count", 0, "count is 0; expected an integer from 1$"),
        ("seed", 1 << 63, "expected an integer from 0 to 9223372036854775807"),
        ("seed", 10**400, "seed is an integer of 1329 bits; expected"),
        ("integers", [0.5], "expected an array of whole numbers"),
        ("numbers", [np.inf], "expected an array of finite numbers"),
        ("mode", "both", "mode is 'both'; expected one of .*mixed"),
        ("choice", "c", "choice is 'c'; expected one of 'a', 'b'"),
        ("choice", np.array(["a", "b"]), "choice is a ndarray .*; expected one of 'a', 'b'"),
        ("net", 3, "net is 3; expected a Module or None"),
        ("graphs", ["x"], r"graphs is \['x'\]; expected a sequence \(a LoihiGraph, ...\)"),
        ("wieght", 1, "take has no argument 'wieght'; expected some of whole, .*graphs$"),
        ("size", (1,), "Did you mean 'sizes'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(key, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        take(**{key: value})
    assert "\n" not in str(caught.value)


@checked
def places(path: Path, /, whole: int, *rest: int, count: Count = 1, **more: int) -> tuple[Any, ...]:
    return path, whole, rest, count, more


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((Path("a"), np.int8(1)), {}),
        ((Path("a"),), {"whole": np.int8(1), "count": np.int8(2)}),
        ((Path("a"), np.int8(1), 5, 6), {"count": np.int8(2), "other": 7}),
    ],
)
def test_arguments_keep_their_places(args, kwargs):
    arrived = places(*args, **kwargs)
    assert arrived == places.__wrapped__(*args, **kwargs)
    assert type(arrived[1]) is int
    assert places("a", 1)[0] == Path("a")


@pytest.mark.parametrize(("args", "kwargs"), [((Path("a"),), {}), ((Path("a"), 1), {"whole": 1})])
def test_arguments_that_are_missing_or_given_twice(args, kwargs):
    with pytest.raises(ConfigError, match=r"places: .*'whole'; expected some of path, whole"):
        places(*args, **kwargs)


def test_all_findings_come_at_once():
    with pytest.raises(ConfigError, match=r"take:\n  - whole is 'a'.*\n  - part is 'b'"):
        take(whole="a", part="b")


def test_missing_and_surplus_arguments():
    with pytest.raises(ConfigError, match="LoihiGraph: missing a required argument: 'nodes'"):
        LoihiGraph()  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="too many positional arguments"):
        Input((3,), 0, False, 1)  # type: ignore[call-arg]


def test_classes_check_replaced_fields_too():
    @checked
    @dataclass(frozen=True)
    class Size:
        width: int

    with pytest.raises(ConfigError, match="Size: width is 'x'; expected an integer"):
        replace(Size(1), width="x")
    assert Size(np.int8(1)) == Size(1)


def test_a_misspelt_field_of_a_node_names_the_right_one():
    nodes = {"in": Input((3,)), "fc": Dense([[2, 2, 2]]), "lif": Neurons((1,), vth=1)}
    graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "lif")))
    with pytest.raises(ConfigError, match="Dense has no argument 'wieght'.*Did you mean 'weight'"):
        graph.with_node("fc", wieght=1)
    with pytest.raises(ConfigError, match="node 'lfi' is unknown.*Did you mean 'lif'"):
        graph.with_node("lfi", vth=2)


def test_modules_of_annotations_may_be_imported_after_the_first_call(monkeypatch):
    import torch

    @checked
    def run(net: nn.Module | None = None) -> Any:
        return net

    net = torch.nn.Linear(1, 1)
    monkeypatch.delitem(sys.modules, "torch.nn")
    with pytest.raises(ConfigError, match="run: net is a Linear; expected a Module or None"):
        run(net)
    monkeypatch.undo()
    assert run(net) is net


def test_texts_stay_on_one_line_however_long_they_are():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert shown(Odd()) == "an Odd"
    assert len(shown("x" * 10**6)) <= 60
    assert "\n" not in shown("a\nb")
    assert shown([object()]) == "a list"
    assert unknown_name("chip", 3, ("a", "b")) == "chip 3 is unknown; expected one of a, b"


def test_a_union_is_checked_where_array_like_is_an_alias(monkeypatch):
    """NumPy 2.5 makes ArrayLike by a type statement, so that nothing can be taken out of it."""
    monkeypatch.setattr(kinds, "ARRAY_LIKE", frozenset())
    kind = kinds.kind_of(str | None)
    assert kind.take(3) is kinds.MISFIT and kind.take("text") == "text"
    assert kinds.kind_of(NDArray[np.int64]).take("text") is kinds.MISFIT


def test_a_call_like_an_earlier_one_is_checked_too():
    @checked
    def add(a: int, names: Sequence[str] = (), b: Any = 0) -> Any:
        return a, names, b

    for value in (1, np.int64(1), 1):
        assert type(add(value, names=("x",), b=None)[0]) is int
    for _ in range(2):
        with pytest.raises(ConfigError, match="add: a is 'one'; expected an integer"):
            add("one", names=("x",), b=None)
        with pytest.raises(ConfigError, match="add: names is "):
            add(1, names=(1,), b=None)
        with pytest.raises(ConfigError, match="add has no argument 'c'"):
            add(1, names=("x",), c=None)
    assert add(1, names=np.array(["x"]))[1][0] == "x"
