"""Damage to bytes, and to what they stand for: zip members, arrays, JSON, TOML."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Random = np.random.Generator

DEEP = 2000
MAX_VALUES = 1 << 20  # of an array that is changed value by value
TOKENS = (
    "null", "true", "-1", "0", "1", "2", "3", "0.5", "-0.0", "1e400", "NaN", "-Infinity", "1e-320", "1e19",
    "9223372036854775807", "18446744073709551616", "9" * 5000, "-" + "9" * 400, '""', '"a"', '"[/red]"',
    '"\\u0000\\u001b[2J"', '"\\ud800"', '"..\\/..\\/etc\\/passwd"', '"9"', "[]", "{}", "[1]", '{"a": 1}',
    "[[1, 2], [3]]", "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP,
    "[" + "0," * 3000 + "0]",
)  # fmt: skip
TOML_TOKENS = (
    "true", "-1", "0", "1", "0.5", "inf", "-inf", "nan", "1e400", "9223372036854775808", "9" * 5000,
    "0x" + "f" * 5000, '""', '"a"', '"[/red]"', '"\\u0000"', "[]", "{}", "[1]", "{a = 1}", "1979-05-27",
    "07:32:00", "[" * DEEP + "]" * DEEP, "{a = " * 200 + "1" + "}" * 200, "[[1, 2], [3]]",
)  # fmt: skip
DESCRS = (
    "'|S0'", "'<U0'", "'|V0'", "'|V8'", "'|O'", "'<f8'", "'>i4'", "'|b1'", "'|u1'", "'<i8'", "'<u8'", "'<f2'",
    "'<c16'", "'<U9'", "'<M8[s]'", "'<i3'", "{}", "[('a', '<i4')]", "('<i4',(0,))", "'<i4' * 9", "None",
    "'<U999999999'", "-" * 400 + "1", "(" * 300 + ")" * 300,
)  # fmt: skip
SHAPES = (
    "()", "(0,)", "(1,)", "(-1,)", "(-1, 1, 6)", "(9999999999999,)", "(4611686018427387904, 4)", "(2, 0, 9)",
    "(True,)", "3", "(3.0,)", "(None,)", "(1, 1, 1, 1, 1, 1)", f"({'1,' * 80})", "(1 << 40,)", "(3, 4)",
)  # fmt: skip
RECORD_CHANGES = (
    ("'x'", "'y'"), ("'x'", "''"), ("'t'", "'t' * 9"), ("'p'", "'p', (2,)"), ("[", "[[" * 99), ("[", ""),
    ("(40,)", "(99999999,)"), ("(40,)", "(-1,)"), ("(40,)", "(2, 20)"), ("(40,)", "()"),
    ("'x'", "'" + "x" * 99 + "'"),
    ("('x'", "('z', '<i4'), " * 99 + "('x'"), ("'x'", "(1, 'x')"), ("False", "True"), ("'y'", "'[/red]'"),
)  # fmt: skip
NUMBERS = (
    0,
    1,
    -1,
    127,
    255,
    256,
    1 << 15,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 62,
    (1 << 63) - 1,
)


def pick(random: Random, choices: Any) -> Any:
    return choices[int(random.integers(len(choices)))]


# --- bytes --------------------------------------------------------------------------------------


def damage_bytes(data: bytes, random: Random) -> bytes:
    """One to eight changes anywhere."""
    for _ in range(int(random.integers(1, 9))):
        data = pick(random, BYTE_CHANGES)(data, random)
    return data


def _span(data: bytes, random: Random, longest: int = 64) -> tuple[int, int]:
    start = int(random.integers(len(data) + 1))
    return start, min(len(data), start + int(random.integers(1, longest)))


def _flip(data: bytes, random: Random) -> bytes:
    a, _ = _span(data, random)
    return (
        data[:a] + bytes([data[a] ^ (1 << int(random.integers(8)))]) + data[a + 1 :]
        if data[a:]
        else data
    )


def _noise(data: bytes, random: Random) -> bytes:
    a, b = _span(data, random, 9)
    return data[:a] + random.bytes(b - a) + data[b:]


def _number(data: bytes, random: Random) -> bytes:
    a, _ = _span(data, random)
    width, code = pick(random, ((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
    value = pick(random, NUMBERS) % (1 << 8 * width)
    return data[:a] + struct.pack(pick(random, "<>") + code, value) + data[a + width :]


def _delete(data: bytes, random: Random) -> bytes:
    a, b = _span(data, random)
    return data[:a] + data[b:]


def _repeat(data: bytes, random: Random) -> bytes:
    a, b = _span(data, random)
    return data[:b] + data[a:b] * int(random.integers(1, 20)) + data[b:]


def _move(data: bytes, random: Random) -> bytes:
    a, b = _span(data, random)
    c, _ = _span(data, random)
    return data[:c] + data[a:b] + data[c + b - a :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: _span(data, random)[0]]


BYTE_CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip, _flip, _noise, _number, _number, _delete, _repeat, _move, _cut,
)  # fmt: skip


# --- text ---------------------------------------------------------------------------------------


def damage_json(data: bytes, random: Random) -> bytes:
    """Replace, remove or double values of a JSON text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # an earlier change nested it too deep
        return damage_bytes(data, random)
    tokens: list[str] = []
    for _ in range(int(random.integers(1, 4))):
        value = _change(value, random, tokens)
    text = json.dumps(value)
    for i, token in enumerate(tokens):
        text = text.replace(f'"@{i}@"', token)
    return text.encode("utf-8", "surrogatepass")


def _change(value: Any, random: Random, tokens: list[str]) -> Any:
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.15:
        tokens.append(pick(random, TOKENS))
        return f"@{len(tokens) - 1}@"
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, kind = pick(random, keys), random.random()
    if kind < 0.12:
        return (
            {k: v for k, v in value.items() if k != key} if isinstance(value, dict) else value[1:]
        )
    if kind < 0.2:
        other = value[pick(random, keys)]
        return {**value, f"{key}x": other} if isinstance(value, dict) else [*value, other]
    if isinstance(value, dict):
        return {**value, key: _change(value[key], random, tokens)}
    return [*value[:key], _change(value[key], random, tokens), *value[key + 1 :]]


def damage_toml(data: bytes, random: Random) -> bytes:
    """Replace, remove, double or shuffle lines of a TOML text."""
    lines = data.decode("utf-8", "replace").splitlines()
    for _ in range(int(random.integers(1, 4))):
        i = int(random.integers(len(lines))) if lines else 0
        key, equals, _ = lines[i].partition("=") if lines else ("a", "=", "")
        kind = random.random()
        if kind < 0.7 and equals:
            lines[i] = f"{key}= {pick(random, TOML_TOKENS)}"
        elif kind < 0.8:
            lines[i : i + 1] = []
        elif kind < 0.9:
            lines.insert(
                i, pick(random, (f"{key}", "[" + "a." * 300 + "a]", "x = 1", "[net]", "[[train]]"))
            )
        else:
            lines[i:i] = lines[i : i + 2]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damage_lines(data: bytes, random: Random) -> bytes:
    """A JSON text on each line."""
    lines = data.split(b"\n")
    i = int(random.integers(len(lines)))
    lines[i] = damage_json(lines[i], random)
    return b"\n".join(lines)


# --- arrays and archives ------------------------------------------------------------------------


def damage_npy(data: bytes, random: Random) -> bytes:
    """Other dtypes, shapes and values; a header that lies."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:
        return damage_bytes(data, random)
    if array.size > MAX_VALUES:  # of items without bytes, which an earlier change has made
        return damage_bytes(data, random)
    kind = random.random()
    if kind < 0.5:
        text = repr({"descr": array.dtype.str, "fortran_order": False, "shape": array.shape})
        for _ in range(int(random.integers(1, 3))):
            field, choices = pick(
                random, (("descr", DESCRS), ("shape", SHAPES), ("fortran_order", ("True", "1")))
            )
            text = _with_field(text, field, pick(random, choices))
        body = text.encode().ljust(int(random.integers(60, 130))) + b"\n"
        version = pick(random, (1, 1, 1, 2, 3, 9))
        length = len(body).to_bytes(2 if version == 1 else 4, "little")
        return b"\x93NUMPY" + bytes([version, 0]) + length + body + array.tobytes()
    stream = io.BytesIO()
    np.save(stream, _other_values(array, random) if kind < 0.8 else _other_shape(array, random))
    return stream.getvalue()


def damage_records(data: bytes, random: Random) -> bytes:
    """Other fields of records; what :func:`damage_npy` does to other arrays."""
    if b"[(" not in data[:200] or random.random() < 0.3:
        return damage_npy(data, random)
    head, end, body = data.partition(b"\n")
    text = head[10:].decode("latin-1")
    kinds = re.findall(r"'[<>|][a-zV]+\d+'", text)
    for _ in range(int(random.integers(1, 4))):
        if random.random() < 0.6 and kinds:
            text = text.replace(pick(random, kinds), pick(random, DESCRS), 1)
        else:
            old, new = pick(random, RECORD_CHANGES)
            text = text.replace(old, new, 1)
    length = len(text).to_bytes(2, "little") if len(text) < 1 << 16 else b"\xff\xff"
    return head[:8] + length + text.encode("latin-1", "replace") + end + body


def _with_field(text: str, field: str, value: str) -> str:
    pattern = rf"('{field}': )(\([^)]*\)|'[^']*'|\w+)"
    return re.sub(pattern, lambda match: match[1] + value, text, count=1)


def _other_values(array: Any, random: Random) -> Any:
    if array.dtype.kind not in "iubf" or not array.size:
        return np.zeros(array.shape, pick(random, ("f4", "c8", "U3", "S2", "i8", ">i4", "?")))
    changed = array.astype(pick(random, (array.dtype, array.dtype, "i8", "f8", "u1", "f4")))
    where = random.integers(0, changed.size, 3)
    wide = pick(random, (*NUMBERS, np.nan, np.inf, -np.inf, 0.5))
    with np.errstate(all="ignore"):
        changed.reshape(-1)[where] = np.array(wide, dtype=np.float64).astype(changed.dtype)
    return changed


def _other_shape(array: Any, random: Random) -> Any:
    flat = array.reshape(-1)
    return pick(
        random,
        (
            flat,
            flat[:-1],
            array[None],
            array[..., None],
            flat[:0],
            np.concatenate([flat, flat]),
            array.T,
        ),
    )


def damage_zip(data: bytes, random: Random) -> bytes:
    """Members damaged inside, renamed, left out, added, doubled, or packed in another way."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(int(random.integers(1, 4))):
        i, kind = int(random.integers(len(members))), random.random()
        name, content = members[i]
        if kind < 0.65:
            members[i] = name, damage_member(content, random)
        elif kind < 0.75:
            members[i] = (
                pick(random, (f"{name}x", ".", "..", "/etc/x.npy", f"a/{name}", "x" * 999)),
                content,
            )
        elif kind < 0.85 and len(members) > 1:
            members.pop(i)
        elif kind < 0.95:
            new = pick(random, (f"{name}.npy", "x.npy", "constants.pkl", "code/a.py", "header.npy"))
            members.append((new, damage_member(content, random)))
        else:
            members.append(members[i])
    method = pick(
        random, (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def damage_member(content: bytes, random: Random) -> bytes:
    """What a member holds: an array, JSON within an array of bytes or a text, or anything."""
    if random.random() < 0.1:
        return damage_bytes(content, random)
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:
        return damage_bytes(content, random)
    if random.random() < 0.7:
        stream = io.BytesIO()
        if array.dtype == np.uint8 and array.ndim == 1 and array[:1].tobytes() in b"{[":
            np.save(stream, np.frombuffer(damage_json(array.tobytes(), random), np.uint8))
            return stream.getvalue()
        if array.dtype.kind == "U" and array.ndim == 0:
            text = damage_json(str(array).encode(), random).decode("utf-8", "replace")
            np.save(stream, np.array(text))
            return stream.getvalue()
    return damage_npy(content, random)
