"""Damaged and hostile .net files: refused by name, within seconds."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from biril_nm.errors import (
    BirilError,
    FileFormatError,
)
from biril_nm.export import read_netx
from tests.support.netx_cases import CASES
from tests.support.netx_runs import conv, dense, neuron, write_file

DAMAGED = {
    "no layers": ([], "layer is not a group"),
    "no weight": ([dense(weight=None)], "layer/0/weight is missing"),
    "no shape": ([dense(shape=None)], "layer/0/shape is missing"),
    "shape": ([dense(shape=[5])], r"expected \(5, inputs\)"),
    "huge": (
        [{"type": "input", "shape": [1 << 20, 1 << 20]}, dense()],
        "shape is .*67108864 neurons",
    ),
    "negative": ([{"type": "input", "shape": [-1, 3]}, dense()], "positive lengths"),
    "no neuron": (conv(neuron={"iDecay": np.zeros(0)}), "iDecay is empty"),
    "text": ([dense(weight="abc")], "weight is object; expected numbers"),
    "nan": ([dense(weight=np.full((2, 3), np.nan))], "weight holds numbers that are not finite"),
    "bias": ([dense(bias=[1, 2, 3])], "bias has shape"),
    "delay": ([dense(delay=[1, 2, 3, 4])], "delay has shape"),
    "decays": (
        [dense(neuron=neuron(i_decay=[1, 2, 3]))],
        r"iDecay has shape \(3,\); expected one",
    ),
    "inputs": ([dense(), dense()], "weights for 3 inputs; expected 2, as it receives shape"),
    "no input": (conv()[1:], r"no input layer.*input_shape=\(C, H, W\)"),
    "kernel": (conv(weight=np.ones((1, 1, 2))), "weight has shape"),
    "stride": (conv(stride=[1, 1, 1]), "stride has 3 numbers"),
    "zero stride": (conv(stride=0), "stride, dilation and groups start at 1"),
    "conv shape": (conv(shape=[1, 9, 9]), "layers do not fit"),
    "not flat": ([*conv(), dense(weight=np.ones((2, 4)))], "expected a flatten layer in front"),
    "only input": ([{"type": "input", "shape": [3]}], "no layer with neurons"),
    "recurrent": ([dense(type="dense_rec", weight_rec=np.ones((2, 3)))], "square matrix"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name, netx):
    layers, message = DAMAGED[name]
    with pytest.raises(FileFormatError, match=f"(?s)x.net.*{message}"):
        read_netx(netx(*layers))


def ours(**changes):
    """What biril-nm notes in a file that it writes."""
    noted = {"input": "a", "output": "o", "layers": {}, "message_bits": 0, **changes}
    return np.bytes_(json.dumps(noted).encode())


def noted(value):
    return lambda file: file.__setitem__("biril_nm", value)


HOSTILE = {
    "gap": (lambda f: f.move("layer/0", "layer/7"), r"members \['7'\]"),
    "type": (lambda f: f["layer/0/type"].__setitem__(0, b"\xff\xfe"), "is not ASCII text"),
    "deep note": (noted(np.bytes_(b"[" * 9999)), "nests deeper than 64 levels"),
    "note of numbers": (noted(7), "is not a text of biril-nm; expected one. Remove it"),
    "long note": (noted(np.bytes_(b" " * (1 << 20) + b"{}")), "longer than 1048576 bytes"),
    "name twice": (noted(ours(output="a")), "a name occurs twice.*Remove it"),
    "name of a layer": (noted(ours(input="layer0")), "'layer0' is given twice"),
    "name of no text": (noted(ours(input=7)), "names must be text"),
    "message bits": (noted(ours(message_bits=99)), "message_bits is 99"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, netx):
    edit, message = HOSTILE[name]
    path = netx(dense())
    read_netx(path)
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises(FileFormatError, match=f"x.net.*{message}"):
        read_netx(path)


def test_damaged_heaps_of_text_are_not_walked_for_ever(netx):
    """The HDF5 library loops in a heap whose free space has size 0."""
    path = netx(dense())
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="x.net.*damaged heap"):
        read_netx(path)
    data[heap : heap + 4] = b"XXXX"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="x.net.*no heap of text"):
        read_netx(path)


@pytest.mark.parametrize("name", ["conv_stack", "recurrent"])
def test_mutated_files_are_read_or_refused(name, tmp_path):
    path = write_file(tmp_path / "x.net", CASES[name](np.random.default_rng(1))[0])
    good = np.frombuffer(path.read_bytes(), np.uint8)
    r = np.random.default_rng(3)
    refused = 0
    for _ in range(25):
        bad = good.copy()
        bad[r.integers(0, len(bad), 4)] = r.integers(0, 256, 4)
        path.write_bytes(bad.tobytes())
        try:
            read_netx(path)
        except BirilError:
            refused += 1
    assert 0 < refused < 25
