"""Federated averaging in plain NumPy: the work of fedavg.c in one process.

`python fedavg.py FOLDER ROUNDS` reads the four unpacked files of MNIST and prints the median time of a round and
the time of the whole program in seconds, and the accuracy in percent.
"""

import statistics
import sys
import time

BEGIN = time.perf_counter()

import numpy as np

SIZES = (784, 16, 10)
CLIENTS, COUNT, EPOCHS, RATE = 100, 600, 5, np.float32(0.1)


def read(folder, name, head):
    with open(f"{folder}/{name}", "rb") as file:
        return np.frombuffer(file.read(), np.uint8, offset=head)


def load(folder):
    """Training and test set, inputs from 0 to 1."""
    sets = []
    for kind in ("train", "t10k"):
        images = read(folder, f"{kind}-images-idx3-ubyte", 16).reshape(-1, SIZES[0])
        labels = read(folder, f"{kind}-labels-idx1-ubyte", 8)
        sets += [images.astype(np.float32) / np.float32(255), labels.astype(np.int64)]
    return sets


def partition(inputs, labels, client):
    own = slice(client * COUNT, (client + 1) * COUNT)
    return inputs[own], labels[own]


def begin():
    """Weights and biases, layer after layer."""
    rng = np.random.default_rng(1)
    model = []
    for below, above in zip(SIZES, SIZES[1:]):
        bound = np.sqrt(6 / below)
        model.append(rng.uniform(-bound, bound, (below, above)).astype(np.float32))
        model.append(np.zeros(above, np.float32))
    return model


def forward(model, inputs):
    hidden = np.maximum(inputs @ model[0] + model[1], 0)
    return hidden, hidden @ model[2] + model[3]


def train(model, inputs, labels):
    """All epochs of one client, each a step on all of its examples."""
    model = [part.copy() for part in model]
    rows = np.arange(len(labels))
    for _ in range(EPOCHS):
        hidden, deltas = forward(model, inputs)
        deltas -= deltas.max(1, keepdims=True)
        np.exp(deltas, out=deltas)
        deltas /= deltas.sum(1, keepdims=True)
        deltas[rows, labels] -= 1
        deltas *= RATE / np.float32(len(labels))
        below = (deltas @ model[2].T) * (hidden > 0)
        model[2] -= hidden.T @ deltas
        model[3] -= deltas.sum(0)
        model[0] -= inputs.T @ below
        model[1] -= below.sum(0)
    return model


def accuracy(model, inputs, labels):
    return 100 * float((forward(model, inputs)[1].argmax(1) == labels).mean())


def main(folder, rounds):
    inputs, labels, test_inputs, test_labels = load(folder)
    model, times, right = begin(), [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        sums = [np.zeros_like(part) for part in model]
        for client in range(CLIENTS):
            for total, part in zip(sums, train(model, *partition(inputs, labels, client))):
                total += part
        model = [total / np.float32(CLIENTS) for total in sums]
        right = accuracy(model, test_inputs, test_labels)
        times.append(time.perf_counter() - start)
    print(f"{statistics.median(times):.6f} {time.perf_counter() - BEGIN:.6f} {right:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
