"""Prints the table of `optimizers_numpy.rs`: weights after three full-batch steps of each optimizer, by NumPy.

The rules are those of torch.optim.SGD and torch.optim.Adam, clipping that of torch.nn.utils.clip_grad_norm_.
"""

import numpy as np

X = np.array([[(37 * (4 * n + i)) % 256 for i in range(4)] for n in range(5)]) / 255
Y = np.array([0, 1, 2, 1, 0])
START = np.array([((7 * i) % 11 - 5) / 10 for i in range(15)])
RATE = 0.1


def gradient(w):
    logits = X @ w[:12].reshape(4, 3) + w[12:]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(5), Y] -= 1
    return np.concatenate([(X.T @ p).ravel(), p.sum(axis=0)]) / 5


def train(step, decay, clip):
    w, state = START.copy(), [np.zeros(15), np.zeros(15)]
    for t in range(1, 4):
        g = gradient(w)
        norm = np.linalg.norm(g)
        if clip and norm > clip:
            g *= clip / norm
        g = g + decay * w
        w = step(w, g, state, t)
    return w


def sgd(w, g, state, t):
    return w - RATE * g


def momentum(w, g, state, t):
    state[0] = 0.9 * state[0] + g
    return w - RATE * state[0]


def adam(w, g, state, t):
    state[0] = 0.9 * state[0] + 0.1 * g
    state[1] = 0.999 * state[1] + 0.001 * g * g
    mean, square = state[0] / (1 - 0.9**t), state[1] / (1 - 0.999**t)
    return w - RATE * mean / (np.sqrt(square) + 1e-8)


for name, step in [("sgd", sgd), ("momentum", momentum), ("adam", adam)]:
    for decay, clip in [(0.0, 0.0), (0.1, 0.0), (0.1, 0.05)]:
        numbers = ", ".join(f"{x:.7f}" for x in train(step, decay, clip))
        print(f'    ("{name}", {decay}, {clip}, [{numbers}]),')
