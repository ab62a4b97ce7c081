"""Encodings of vectors in NumPy, written from their papers and docs/wire-format.md, and from nothing else.

Prints the numbers and the expected octets that `tests/numpy.rs` reads. To make them again, with NumPy 2:

    python3 crates/fl-proto/tests/numpy/encodings.py > crates/fl-proto/tests/numpy/encodings.json
"""

import json

import numpy as np

F = np.float32

# Lengths of the tensors; what is behind the last is one more.
TENSORS = [40, 7]
COUNT = 60
SEED = 7

# Number of the stream of the draws that round.
STREAM = int.from_bytes(b"encoding", "big")


class Pcg32:
    """PCG-XSH-RR 64/32, O'Neill 2014."""

    def __init__(self, seed, stream):
        self.state, self.increment = 0, (stream << 1 | 1) & (1 << 64) - 1
        self.next()
        self.state = (self.state + seed) & (1 << 64) - 1
        self.next()

    def next(self):
        old = self.state
        self.state = (old * 6364136223846793005 + self.increment) & (1 << 64) - 1
        shifted = ((old >> 18 ^ old) >> 27) & 0xFFFFFFFF
        turn = old >> 59
        return (shifted >> turn | shifted << (32 - turn)) & 0xFFFFFFFF

    def uniform(self):
        return F(self.next() >> 8) * F(2.0**-24)


def packed(symbols):
    """Values and their widths in bits as octets, from the lowest bit on, padded with zeros."""
    value = at = 0
    for number, width in symbols:
        value |= number << at
        at += width
    return value.to_bytes((at + 7) // 8, "little")


def bits(number):
    return int(np.array(number, F).view(np.uint32))


def tensors(x):
    ends = np.cumsum(TENSORS)
    return [part for part in np.split(x, ends) if len(part)]


def block(part, levels, scale, codes, width):
    head = (len(part) | levels << 24).to_bytes(4, "little") + bits(scale).to_bytes(4, "little")
    return head + packed((code, width) for code in codes)


def rounded(number, scale, levels, draws):
    """A level for a magnitude, up or down so that the mean is right."""
    step = scale / F(levels)
    steps = abs(number) / step if step > 0 else F(0)
    below = int(steps)
    return min(below + int(draws.uniform() < steps - F(below)), levels)


def f16(x):
    return x.astype("<f2").tobytes()


def int8(x, draws):
    octets = b""
    for part in tensors(x):
        scale = np.abs(part).max()
        codes = [rounded(v, scale, 127, draws) for v in part]
        codes = [(-code if v < 0 else code) & 255 for code, v in zip(codes, part)]
        octets += block(part, 127, scale, codes, 8)
    return octets


def qsgd(x, draws, levels, bucket):
    width = 1 + levels.bit_length()
    octets = b""
    for tensor in tensors(x):
        for at in range(0, len(tensor), bucket):
            part = tensor[at : at + bucket]
            square = F(0)
            for v in part:
                square += v * v
            scale = np.sqrt(square)
            codes = []
            for v in part:
                level = rounded(v, scale, levels, draws)
                codes.append(level | (1 << width - 1 if v < 0 and level > 0 else 0))
            octets += block(part, levels, scale, codes, width)
    return octets


def sign(x):
    octets = b""
    for part in tensors(x):
        total = F(0)
        for v in part:
            total += abs(v)
        octets += block(part, 1, total / F(len(part)), [int(v < 0) for v in part], 1)
    return octets


def topk(x, k):
    count = len(x)
    kept = min(max(int(k * count + 0.5), 1), count)
    # Of equal magnitudes the first ones.
    order = sorted(range(count), key=lambda at: (-abs(x[at]), at))
    places = sorted(order[:kept])
    most = lambda rest: kept * (1 + rest + 16) + (count - kept >> rest)
    rest = min(range(24), key=most)
    symbols, last = [], -1
    for at in places:
        gap = at - last - 1
        symbols += [(0, gap >> rest), (1, 1), (gap & (1 << rest) - 1, rest)]
        symbols.append((int(x[at : at + 1].astype("<f2").view(np.uint16)[0]), 16))
        last = at
    octets = packed(symbols)
    return kept.to_bytes(4, "little") + octets.ljust((most(rest) + 7) // 8, b"\0")


rng = np.random.default_rng(11)
x = (rng.normal(0, 0.01, COUNT) * rng.integers(0, 4, COUNT)).astype(F)

cases = [
    ("f32", {}, x.astype("<f4").tobytes()),
    ("f16", {}, f16(x)),
    ("int8", {}, int8(x, Pcg32(SEED, STREAM))),
    ("qsgd", {}, qsgd(x, Pcg32(SEED, STREAM), 7, 512)),
    ("qsgd", {"levels": 127, "bucket_size": 16}, qsgd(x, Pcg32(SEED, STREAM), 127, 16)),
    ("topk", {}, topk(x, 0.01)),
    ("topk", {"k": 0.25}, topk(x, 0.25)),
    ("sign", {}, sign(x)),
]
cases = [{"codec": name, "params": params, "octets": octets.hex()} for name, params, octets in cases]
print(json.dumps({"numbers": [float(v) for v in x], "tensors": TENSORS, "seed": SEED, "cases": cases}, indent=1))
