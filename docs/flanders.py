#!/usr/bin/env python3
"""Explains the published table of robust rules: the settings of Flower's baseline `flanders`, made again in NumPy.

    python3 docs/flanders.py RULE ATTACK [SEED]      # fedavg or median; none, lie or min-max

It needs NumPy and takes a minute or two of one core. What the program of the baseline does, other than its text says:

- it trains 784-128-10 on 480 of the 600 examples of a client, in numbers from -1 to 1, and tests in numbers from 0 to 1;
- LIE goes 0.73 times the root of the standard deviation off the mean;
- min-max begins to look for its factor at 5 with steps that halve, so it finds none below 2.5, and then takes 6;
- 20 attackers are drawn anew in each round, from the third on.

Every fifth round is printed with the accuracy on both scales. docs/experiments.md has the result.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

CLIENTS, ATTACKERS, EXAMPLES, TRAINED, BATCH, ROUNDS = 100, 20, 600, 480, 32, 50
DATA = Path(__file__).parent.parent / "data/mnist"


def octets(name):
    """Octets of an IDX file, in the shape that it tells."""
    raw = gzip.decompress((DATA / f"{name}-ubyte.gz").read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw[4 + 4 * raw[3] :], np.uint8).reshape(shape)


def images(name):
    """Images as rows of numbers from 0 to 1."""
    return octets(name).reshape(-1, 784).astype(np.float32) / 255


def partitions(labels, rng):
    """Indices of each client: classes by Dirichlet(0.5), as long as a class has examples left."""
    left = [list(rng.permutation(np.flatnonzero(labels == c))) for c in range(10)]
    for _ in range(CLIENTS):
        shares, mine = rng.dirichlet([0.5] * 10), []
        for _ in range(EXAMPLES):
            chances = np.array([share + 1e-5 if rest else 0 for share, rest in zip(shares, left)])
            mine.append(left[rng.choice(10, p=chances / chances.sum())].pop())
        yield rng.permutation(mine)[:TRAINED]


def initial(inputs, outputs, rng):
    """Weights and biases as PyTorch draws them."""
    bound = inputs**-0.5
    return [rng.uniform(-bound, bound, size).astype(np.float32) for size in ((outputs, inputs), outputs)]


def forward(model, x):
    """Hidden activations and logits."""
    hidden = np.maximum(x @ model[0].T + model[1], 0)
    return hidden, hidden @ model[2].T + model[3]


def gradient(model, x, labels):
    """Gradient of the mean cross-entropy."""
    hidden, logits = forward(model, x)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    error = powers / powers.sum(1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ model[2]) * (hidden > 0)
    return [back.T @ x, back.sum(0), error.T @ hidden, error.sum(0)]


def trained(model, x, labels):
    """The model after one epoch of Adam at 0.001."""
    model = [w.copy() for w in model]
    first, second = ([np.zeros_like(w) for w in model] for _ in range(2))
    for step, at in enumerate(range(0, len(x), BATCH), 1):
        for i, g in enumerate(gradient(model, x[at : at + BATCH], labels[at : at + BATCH])):
            first[i] += 0.1 * (g - first[i])
            second[i] += 0.001 * (g * g - second[i])
            root = np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8
            model[i] -= 0.001 * first[i] / (1 - 0.9**step) / root
    return model


def factor(honest, mean, deviation):
    """Standard deviations off the mean that min-max takes, by the search of the baseline."""
    flat = lambda model: np.concatenate([w.ravel() for w in model])
    rows, mean, deviation = np.stack([flat(model) for model in honest]), flat(mean), flat(deviation)
    norms = (rows**2).sum(1)
    widest = (norms[:, None] + norms - 2 * rows @ rows.T).max()
    found, now, step = 6.0, 5.0, 2.5
    while abs(found - now) > 1e-5 and step > 1e-5:
        evil = mean - now * deviation
        if (norms + (evil**2).sum() - 2 * rows @ evil).max() < widest:
            found, now = now, now + step / 2
        else:
            now -= step / 2
        step /= 2
    return found


def attacked(updates, attack, rng):
    """Updates of a round in which a fifth of the clients attack."""
    evil = set(rng.choice(CLIENTS, ATTACKERS, replace=False))
    mean = [np.mean(layers, 0) for layers in zip(*updates)]
    deviation = [np.std(layers, 0) for layers in zip(*updates)]
    if attack == "lie":
        off = [0.7338 * np.sqrt(d) for d in deviation]
    else:
        honest = [update for i, update in enumerate(updates) if i not in evil]
        by = factor(honest, mean, deviation)
        off = [by * d for d in deviation]
    wrong = [m - o for m, o in zip(mean, off)]
    return [wrong if i in evil else update for i, update in enumerate(updates)]


def main(rule, attack, seed="1"):
    together, rng = {"fedavg": np.mean, "median": np.median}[rule], np.random.default_rng(int(seed))
    x, labels = images("train-images-idx3") * 2 - 1, octets("train-labels-idx1")
    test, truth = images("t10k-images-idx3"), octets("t10k-labels-idx1")
    accuracy = lambda model, x: 100 * (forward(model, x)[1].argmax(1) == truth).mean()
    clients = list(partitions(labels, rng))
    model = initial(784, 128, rng) + initial(128, 10, rng)
    for round in range(1, ROUNDS + 1):
        updates = [trained(model, x[mine], labels[mine]) for mine in clients]
        if attack != "none" and round > 2:
            updates = attacked(updates, attack, rng)
        model = [together(np.stack(layers), 0).astype(np.float32) for layers in zip(*updates)]
        if round % 5 == 0:
            print(f"round {round}: {accuracy(model, test * 2 - 1):.2f} % from -1 to 1, {accuracy(model, test):.2f} % from 0 to 1", flush=True)


main(*sys.argv[1:])
