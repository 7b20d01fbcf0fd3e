"""One plastic connection in plain Python integers, synapse by synapse; shares no code with the kernels.

Written from the equations of lava-nc 0.10.0 (``connection.py``, ``learning_rule_applier.py``,
``product_series.py``, ``random.py``, tag fixed_pt), with Lava's own rule text parsed here a second time.
"""

from __future__ import annotations

import re

import numpy as np

WIDTH = {"x0": 1, "y0": 1, **dict.fromkeys(("x1", "x2", "y1", "y2", "y3"), 7)}
WIDTH.update(dict.fromkeys("wtd", 9))


def parse(text):
    """Lava's rule text to (dependency, decimation, mantissa, exponent, [(kind, variable, constant)])."""
    products = []
    for sign, body in re.findall(r"([+-]?)\s*((?:\([^)]*\)|\^-?|[^+\-\s]|(?<=\^)-)+)", text):
        mantissa, exponent, dependency, decimation, factors = 1, 0, None, None, []
        mantissa = -1 if sign == "-" else 1
        for part in body.split("*"):
            if re.fullmatch(r"2\^-?\d+", part):
                exponent += int(part[2:])
            elif re.fullmatch(r"\d+", part):
                mantissa *= int(part)
            elif re.fullmatch(r"u\d", part):
                dependency, decimation = dependency or "u", int(part[1])
            elif part in ("x0", "y0") and dependency is None:
                dependency = part
            else:
                kind = "sgn" if part.startswith("sgn") else "plain"
                inner = re.sub(r"sgn|[()]", "", part)
                variable, constant = re.fullmatch(r"(\w\d?)([+-]\d+)?", inner).groups()
                factors.append((kind, variable, int(constant or 0)))
        products.append((dependency, decimation, mantissa, exponent, factors))
    return products


def clip(x, low, high):
    return max(low, min(high, x))


def int32(x):
    return (x + 2**31) % 2**32 - 2**31


class Connection:
    """State of one connection: lists w, t, d of [post][pre] (None: no synapse) and traces by name."""

    def __init__(self, rule, weights, mode, bits, tags=None, delays=None, sparse=False, own=False):
        step = 2 ** (8 - bits + (1 if mode == "mixed" else 0))
        sign = -1 if mode == "inhibitory" else 1
        self.mode = mode
        self.w = [
            [None if w is None else sign * (sign * w // step * step) for w in row]
            for row in weights
        ]
        self.alive = [[w is not None and (w != 0 or not sparse) for w in row] for row in self.w]
        zeros = [[None if w is None else 0 for w in row] for row in weights]
        self.t = [list(row) for row in (tags or zeros)]
        self.d = [list(row) for row in (delays or zeros)]
        post, pre = len(weights), len(weights[0])
        self.trace = {
            n: [0] * (pre if n[0] == "x" else post) for n in ("x1", "x2", "y1", "y2", "y3")
        }
        self.spike = {"x": [0] * pre, "y": [0] * post}
        self.three = rule.three_factor
        self.epoch = rule.t_epoch
        arguments = rule.lava_arguments()
        self.products = {z: parse(arguments[f"d{z}"]) if arguments[f"d{z}"] else [] for z in "wtd"}
        self.tau, self.impulse = {}, {}
        for name in self.trace:
            given = self.three and name[0] == "y"
            self.tau[name] = 65535 if given else arguments[f"{name}_tau"]
            impulse = 0 if given else arguments[f"{name}_impulse"]
            whole = int(np.floor(impulse))
            self.impulse[name] = whole, int(np.round((impulse - whole) * 256))
        seed = arguments["rng_seed"]
        self.random = {
            "x": (np.random.default_rng(seed), np.random.default_rng(seed + 1)),
            "y": (np.random.default_rng(seed + 2), np.random.default_rng(seed + 3)),
        }
        self.own = own  # whether each synapse is rounded by a number of its own
        self.rounding = np.random.Generator(np.random.PCG64DXSM(seed)) if own else None
        self.rounding = self.rounding or np.random.default_rng(2)
        places = [(i, j) for j in range(pre) for i in range(post) if weights[i][j] is not None]
        self.place = {place: n for n, place in enumerate(places)}
        self.rounding.random(1)
        self.now = 0
        self.draw()

    def draw(self):
        self.value = {
            side: (uniform.random(1)[0], integers.integers(0, 128, size=1, dtype=int)[0])
            for side, (uniform, integers) in self.random.items()
        }

    def add(self, name, value, random):
        whole, fraction = self.impulse[name]
        return clip(value + whole + (1 if random < fraction else 0), 0, 127)

    def step(self, pre, post, third):
        self.now += 1
        inside = (self.now - 1) % self.epoch + 1
        for side, spikes in (("x", pre), ("y", post)):
            for n, spike in enumerate(spikes):
                if spike and self.spike[side][n]:
                    random = 0 if side == "x" else self.value["y"][1]
                    for name in self.trace:
                        if name[0] == side:
                            self.trace[name][n] = self.add(name, self.trace[name][n], random)
                if spike:
                    self.spike[side][n] = inside
            self.draw()
        if self.three:
            for name in ("y1", "y2", "y3"):
                self.trace[name] = [int(v) for v in third[name]]
        if inside == self.epoch:
            self.learn()

    def learn(self):
        random = self.rounding.random(1)[0]
        history = {}
        for name, trace in self.trace.items():
            side = name[0]
            rows = [list(trace)]
            for k in range(1, self.epoch + 1):
                row = []
                for n, value in enumerate(rows[-1]):
                    z = 0.0
                    if self.tau[name]:
                        z = float(np.exp(-1 / np.array([self.tau[name]]))[0]) * value
                    decayed = int(np.floor(z)) + (1 if self.value[side][0] < z % 1 else 0)
                    if self.spike[side][n] == k:
                        decayed = self.add(name, decayed, self.value[side][1])
                    row.append(decayed)
                rows.append(row)
            history[name] = rows
            if not (self.three and side == "y"):
                self.trace[name] = list(rows[-1])
        old = {z: [list(row) for row in getattr(self, z)] for z in "wtd"}
        for z, products in self.products.items():
            for i, row in enumerate(getattr(self, z)):
                for j, value in enumerate(row):
                    if products and value is not None and (z != "w" or self.alive[i][j]):
                        number = self.number(random, z, i, j) if self.own else random
                        row[j] = self.synapse(z, products, old, history, i, j, number)
        self.spike = {side: [0] * len(times) for side, times in self.spike.items()}

    def number(self, random, z, i, j):
        """Random number of one synapse: MurmurHash3's finalizer of a counter, 7 bits of it."""
        x = int(random * 2**31) + "wtd".index(z) + 0x9E3779B1 * self.place[i, j]
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            x %= 2**32
            x = (x ^ (x >> shift)) * factor
        return (127 - (x % 2**32 >> 25)) / 128

    def synapse(self, z, products, old, history, i, j, random):
        acc = old[z][i][j] << 7
        for dependency, decimation, mantissa, exponent, factors in products:
            at = {"x0": self.spike["x"][j], "y0": self.spike["y"][i], "u": self.epoch}[dependency]
            gate = 1 if at else 0
            if dependency == "u":
                gate = 1 if self.now // self.epoch % 2**decimation == 0 else 0
            product, width = gate, 4
            for kind, variable, constant in factors:
                if variable in old:
                    value = old[variable][i][j]
                elif variable in ("x0", "y0"):
                    value = 1 if self.spike[variable[0]][j if variable == "x0" else i] else 0
                else:
                    value = history[variable][at][j if variable[0] == "x" else i]
                value += constant
                if kind == "sgn":
                    value = (value > 0) - (value < 0)
                limit = 2 ** WIDTH[variable]
                product = int32(product * clip(value, -limit, limit - 1))
                width += WIDTH[variable]
            product = int32(product * mantissa) >> max(0, width - 15)
            product = clip(int32(product << (exponent + 7)), -(2**15) - 1, 2**15 - 1)
            acc = clip(acc + product, -(2**15) - 1, 2**15 - 1)
        if z == "d" or (z == "w" and self.mode == "excitatory"):
            acc = max(acc, 0)
        if z == "w" and self.mode == "inhibitory":
            acc = min(acc, 0)
        value = acc // 128 + (1 if random < (acc % 128) / 128 else 0)
        limits = {"t": (-257, 255), "d": (0, 255)}
        signs = {"mixed": (-256, 255), "excitatory": (0, 255), "inhibitory": (-255, 0)}
        return clip(value, *limits.get(z, signs[self.mode]))
