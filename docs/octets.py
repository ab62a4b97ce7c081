#!/usr/bin/env python3
"""Accuracy that octets cost: a small network on one data set in several forms of its features.

    zfl data get watch
    python3 docs/octets.py ~/.cache/zfl/data/watch      # any folder with train.csv and test.csv
    python3 docs/octets.py synthetic                    # synthetic(1, 1) of Li et al. 2020, as NumPy draws it

It needs NumPy. Every form is trained centrally by SGD with a ReLU layer of 16 units (none for synthetic), over a grid of
rates, three seeds each; the best rate of each form is printed. docs/data.md has the result.
"""

import csv
import sys

import numpy as np

RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SEEDS = (1, 2, 3)


def table(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    features = [name for name in rows[0] if name not in ("client", "label", "split")]
    x = np.array([[float(row[name]) for name in features] for row in rows])
    return x, [row["label"] for row in rows]


def folder(path):
    (train, labels), (test, test_labels) = table(f"{path}/train.csv"), table(f"{path}/test.csv")
    names = sorted(set(labels))
    number = lambda of: np.array([names.index(label) for label in of])
    return train, number(labels), test, number(test_labels)


def synthetic(alpha=1.0, beta=1.0, devices=30, width=60, classes=10):
    rng = np.random.default_rng(0)
    x, y = [], []
    for _ in range(devices):
        u, b = rng.normal(0, alpha), rng.normal(0, beta)
        weights, bias = rng.normal(u, 1, (width, classes)), rng.normal(u, 1, classes)
        count = int(min(rng.lognormal(4, 2), 2000)) + 50
        spread = np.arange(1, width + 1) ** -0.6
        own = rng.normal(b, 1, width) + spread * rng.normal(0, 1, (count, width))
        x.append(own)
        y.append((own @ weights + bias).argmax(1))
    x, y = np.concatenate(x), np.concatenate(y)
    test = np.arange(len(x)) % 10 == 9
    return x[~test], y[~test], x[test], y[test]


def forms(train, test):
    """Features as a device could have them; every scale is computed on the training examples alone."""
    mean, deviation = train.mean(0), train.std(0) + 1e-12
    low, high = train.min(0), train.max(0)
    octet = lambda x: np.clip(np.rint(x), 0, 255) / 255
    around = lambda clip: lambda x: octet((x - mean) / deviation * 127.5 / clip + 127.5)

    def pair(clip):
        def of(x):
            steps = (x - mean) / deviation * 255 / clip
            return np.concatenate([octet(steps), octet(-steps)], 1)

        return of

    of = {
        "f32, standardised": lambda x: (x - mean) / deviation,
        "one octet, 4 sigma around 128": around(4),
        "one octet, least to most": lambda x: octet((x - low) / (high - low + 1e-12) * 255),
        "pair of octets, 2 sigma": pair(2),
        "pair of octets, 3 sigma": pair(3),
        "pair of octets, 4 sigma": pair(4),
    }
    return {name: (form(train), form(test)) for name, form in of.items()}


def accuracy(train, labels, test, test_labels, hidden, rate, epochs, seed, batch=32):
    rng = np.random.default_rng(seed)
    sizes = [train.shape[1], *hidden, labels.max() + 1]
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        bound = np.sqrt(6 / inputs) if hidden else 0
        layers.append([rng.uniform(-bound, bound, (inputs, outputs)), np.zeros(outputs)])

    def forward(x):
        found = [x]
        for at, (weights, bias) in enumerate(layers):
            x = x @ weights + bias
            x = np.maximum(x, 0) if at + 1 < len(layers) else x
            found.append(x)
        return found

    for _ in range(epochs):
        order = rng.permutation(len(train))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            found = forward(train[chosen])
            delta = np.exp(found[-1] - found[-1].max(1, keepdims=True))
            delta /= delta.sum(1, keepdims=True)
            delta[np.arange(len(chosen)), labels[chosen]] -= 1
            delta /= len(chosen)
            for at in reversed(range(len(layers))):
                weights, bias = layers[at]
                below = (delta @ weights.T) * (found[at] > 0)
                weights -= rate * found[at].T @ delta
                bias -= rate * delta.sum(0)
                delta = below
    return (forward(test)[-1].argmax(1) == test_labels).mean()


def main():
    source = sys.argv[1]
    generated = source == "synthetic"
    train, labels, test, test_labels = synthetic() if generated else folder(source)
    hidden, epochs = ([], 20) if generated else ([16], 60)
    print(f"{len(train)} examples of {train.shape[1]} features, {len(test)} for testing")
    np.seterr(all="ignore")
    for name, (a, b) in forms(train, test).items():
        found = []
        for rate in RATES:
            each = [accuracy(a, labels, b, test_labels, hidden, rate, epochs, seed) for seed in SEEDS]
            found.append((np.mean(each), rate, min(each), max(each)))
        mean, rate, least, most = max(found)
        print(f"{name:32} {100 * mean:5.1f} % ({100 * least:.1f} to {100 * most:.1f}) at rate {rate}", flush=True)


if __name__ == "__main__":
    main()
