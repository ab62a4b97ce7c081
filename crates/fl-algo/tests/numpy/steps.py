"""Steps of server rules and attacks in NumPy, written from the papers and from nothing else.

Prints the inputs and the expected results that `tests/numpy.rs` reads. To make them again, with NumPy 2:

    python3 crates/fl-algo/tests/numpy/steps.py > crates/fl-algo/tests/numpy/steps.json
"""

import itertools
import json
from statistics import NormalDist

import numpy as np

rng = np.random.default_rng(10)

# Parameters of a model.
P = 4


def model(scale=1.0):
    """Random numbers that an f32 has exactly."""
    return rng.normal(0, scale, P).astype(np.float32).astype(np.float64)


def ways(x, models):
    return np.array([w - x for w in models])


def update(client, w, weight=1, steps=1, started=1, **metrics):
    return {
        "client": client,
        "model": list(w),
        "weight": weight,
        "steps": steps,
        "round": started,
        "metrics": metrics,
    }


cases, attacks = [], []


def case(name, params, x, rounds, clients):
    """`rounds`: pairs of updates and the expected next model."""
    rounds = [{"updates": u, "expected": list(e)} for u, e in rounds]
    cases.append(
        {
            "algorithm": name,
            "params": params,
            "clients": clients,
            "global": list(x),
            "rounds": rounds,
        }
    )


# Reddi et al. 2021, Algorithm 2, with v of 0 before the first round and weights by examples.
def fedopt(name, params, second):
    x = start = model()
    m, v = np.zeros(P), np.zeros(P)
    rounds = []
    for t in range(1, 4):
        weights = np.array([3.0, 1.0, 6.0])
        models = [model() for _ in weights]
        delta = np.average(ways(x, models), axis=0, weights=weights)
        m = params.get("beta_1", 0.0) * m + (1 - params.get("beta_1", 0.0)) * delta
        v = second(v, m)
        x = x + params["eta"] * m / (np.sqrt(v) + params["tau"])
        updates = [update(k, w, int(n), started=t) for k, (w, n) in enumerate(zip(models, weights))]
        rounds.append((updates, x))
    case(name, params, start, rounds, 3)


fedopt("fedadagrad", {"eta": 0.1, "tau": 0.001}, lambda v, d: v + d**2)
fedopt("fedadagrad", {"eta": 0.5, "tau": 0.1, "beta_1": 0.5}, lambda v, d: v + d**2)
fedopt(
    "fedadam",
    {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 0.001},
    lambda v, d: 0.99 * v + 0.01 * d**2,
)
fedopt(
    "fedyogi",
    {"eta": 0.01, "beta_1": 0.9, "beta_2": 0.99, "tau": 0.001},
    lambda v, d: v - 0.01 * d**2 * np.sign(v - d**2),
)
fedopt(
    "fedyogi",
    {"eta": 1.0, "beta_1": 0.0, "beta_2": 0.5, "tau": 0.01},
    lambda v, d: v - 0.5 * d**2 * np.sign(v - d**2),
)


# Hsu et al. 2019: v = beta v + dw, w = w - v, with a server rate as in Reddi et al.
def fedavgm(rate, beta):
    x = start = model()
    v, rounds = np.zeros(P), []
    for t in range(1, 4):
        weights = np.array([2.0, 5.0])
        models = [model() for _ in weights]
        v = beta * v + np.average(-ways(x, models), axis=0, weights=weights)
        x = x - rate * v
        rounds.append(
            ([update(k, w, int(n), started=t) for k, (w, n) in enumerate(zip(models, weights))], x)
        )
    case("fedavgm", {"server_learning_rate": rate, "server_momentum": beta}, start, rounds, 2)


fedavgm(1.0, 0.9)
fedavgm(0.3, 0.5)


# Wang et al. 2020: x - tau_eff sum p_i eta d_i, d_i the way in units of |a_i|; section 4 has |a_i| in closed
# form for momentum and for a proximal term.
def length(tau, rho, alpha):
    if rho and alpha:
        raise ValueError("one of them")
    if rho:
        return (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)
    if alpha:
        return (1 - (1 - alpha) ** tau) / alpha
    return tau


def fednova(rho, mu, gamma):
    x = start = model()
    v, rounds, eta = np.zeros(P), [], 0.25
    for t in range(1, 4):
        n = np.array([4.0, 1.0, 7.0, 2.0])
        tau = [8, 2, 14, 5]
        models = [model() for _ in n]
        p = n / n.sum()
        a = np.array([length(s, rho, eta * mu) for s in tau])
        tau_eff = (p * a).sum()
        step = tau_eff * (p[:, None] * -ways(x, models) / a[:, None]).sum(axis=0)
        v = gamma * v + step
        x = x - v
        updates = [
            update(k, w, int(n[k]), tau[k], t, learning_rate=eta) for k, w in enumerate(models)
        ]
        rounds.append((updates, x))
    params = {"rho": rho, "mu": mu, "server_momentum": gamma}
    case("fednova", params, start, rounds, 4)


fednova(0.0, 0.0, 0.0)
fednova(0.9, 0.0, 0.0)
fednova(0.0, 0.3, 0.0)
fednova(0.0, 0.0, 0.5)


# Li et al. 2020, Algorithm 2: L is the inverse of the learning rate.
def qfedavg(q):
    x = start = model()
    rounds = []
    for t in range(1, 3):
        losses, rates = [0.2, 2.3, 0.7], [0.5, 0.5, 0.25 if q else 0.5]
        models = [model(0.3) for _ in losses]
        deltas, h = [], []
        for loss, rate, w in zip(losses, rates, models):
            lipschitz = 1 / rate
            dw = lipschitz * (x - w)
            deltas.append(loss**q * dw)
            h.append(q * loss ** (q - 1) * (dw**2).sum() + lipschitz * loss**q)
        x = x - np.sum(deltas, axis=0) / np.sum(h)
        updates = [
            update(k, w, 9, 1, t, global_loss=losses[k], learning_rate=rates[k])
            for k, w in enumerate(models)
        ]
        rounds.append((updates, x))
    case("qfedavg", {"q": q}, start, rounds, 3)


qfedavg(0.0)
qfedavg(0.1)
qfedavg(2.0)


# Xie et al. 2019, Algorithm 1 and section 5 on staleness functions.
def fedasync(params, s):
    x = start = model()
    rounds = []
    for t in range(1, 9):
        w, began = model(), [1, 1, 1, 3, 5, 2, 7, 2][t - 1]
        alpha = params["mixing"] * s(t - began)
        x = (1 - alpha) * x + alpha * w
        rounds.append(([update(t % 3, w, started=began)], x))
    case("fedasync", params, start, rounds, 3)


fedasync({"mixing": 0.6}, lambda d: 1)
fedasync({"mixing": 0.9, "polynomial_a": 0.5}, lambda d: (d + 1) ** -0.5)
fedasync(
    {"mixing": 0.9, "hinge_a": 10, "hinge_b": 4}, lambda d: 1 if d <= 4 else 1 / (10 * (d - 4) + 1)
)


# Robust rules: one round of equal weights, the last `f` models far off.
def robust(name, params, n, f, rule):
    x = model()
    models = np.array([model() for _ in range(n - f)] + [model(30) for _ in range(f)])
    order = rng.permutation(n)
    updates = [update(int(k), models[k]) for k in order]
    case(name, params, x, [(updates, rule(models))], n)


def scores(models, f):
    """Blanchard et al. 2017: squared distances to the n - f - 2 nearest."""
    n = len(models)
    found = []
    for a in range(n):
        distances = sorted(((models[a] - models[b]) ** 2).sum() for b in range(n) if b != a)
        found.append(sum(distances[: max(n - f - 2, 1)]))
    return np.array(found)


def multi_krum(models, f, m):
    return models[np.argsort(scores(models, f), kind="stable")[:m]].mean(axis=0)


def trimmed(models, beta):
    cut = int(beta * len(models))
    return np.sort(models, axis=0)[cut : len(models) - cut].mean(axis=0)


def bulyan(models, f, theta=None):
    """El Mhamdi et al. 2018, section 4."""
    theta = theta or len(models) - 2 * f
    left, selected = list(models), []
    for _ in range(theta):
        selected.append(left.pop(int(np.argmin(scores(np.array(left), f)))))
    selected = np.array(selected)
    beta = theta - 2 * f
    near = np.abs(selected - np.median(selected, axis=0)).argsort(axis=0)[:beta]
    return np.take_along_axis(selected, near, axis=0).mean(axis=0)


robust("median", {}, 7, 2, lambda w: np.median(w, axis=0))
robust("median", {}, 8, 3, lambda w: np.median(w, axis=0))
robust("trimmed-mean", {"beta": 0.2}, 10, 2, lambda w: trimmed(w, 0.2))
robust("trimmed-mean", {"beta": 0.4}, 9, 1, lambda w: trimmed(w, 0.4))
robust("krum", {"num_malicious_nodes": 2}, 8, 2, lambda w: multi_krum(w, 2, 1))
robust(
    "multi-krum",
    {"num_malicious_nodes": 2, "num_nodes_to_select": 4},
    9,
    2,
    lambda w: multi_krum(w, 2, 4),
)
robust("bulyan", {"num_malicious_nodes": 1}, 7, 1, lambda w: bulyan(w, 1))
robust("bulyan", {"num_malicious_nodes": 2}, 11, 2, lambda w: bulyan(w, 2))
robust(
    "bulyan",
    {"num_malicious_nodes": 2, "num_nodes_to_select": 9},
    12,
    2,
    lambda w: bulyan(w, 2, 9),
)


def attack(name, params, honest, attackers, make):
    x = model()
    models = np.array([model() for _ in range(honest)])
    trained = np.array([model() for _ in range(attackers)])
    attacks.append(
        {
            "attack": name,
            "params": params,
            "global": list(x),
            "honest": models.tolist(),
            "trained": trained.tolist(),
            "expected": [list(w) for w in make(x, models, trained)],
        }
    )


# Baruch et al. 2019, Algorithm 3, in the direction of its code: mean - z sigma.
def lie(models, attackers, z=None):
    n, m = len(models) + attackers, attackers
    s = n // 2 + 1 - m
    z = z or NormalDist().inv_cdf((n - m - s) / (n - m))
    return [models.mean(axis=0) - z * models.std(axis=0)] * m


# Shejwalkar and Houmansadr 2021, Algorithm 1 with the constraint of AGR-agnostic min-max, on gradients.
def min_max(x, models, attackers, kind):
    gradients = models - x
    mean = gradients.mean(axis=0)
    p = {
        "min-max": -gradients.std(axis=0),
        "min-max-sign": -np.sign(mean),
        "min-max-unit": -mean / np.linalg.norm(mean),
    }[kind]
    apart = max(np.linalg.norm(a - b) for a, b in itertools.combinations(gradients, 2))
    gamma, step, found = 10.0, 10.0, 0.0
    for _ in range(80):
        far = max(np.linalg.norm(mean + gamma * p - g) for g in gradients)
        step /= 2
        if far <= apart:
            found = gamma
            gamma += step
        else:
            gamma -= step
    return [x + mean + found * p] * attackers


attack("lie", {}, 8, 3, lambda x, w, t: lie(w, 3))
attack("lie", {}, 26, 24, lambda x, w, t: lie(w, 24))
attack("lie", {"z": 1.5}, 5, 2, lambda x, w, t: lie(w, 2, 1.5))
for kind in ["min-max", "min-max-sign", "min-max-unit"]:
    attack(kind, {}, 6, 2, lambda x, w, t: min_max(x, w, 2, kind))
attack("scaled", {"factor": 5}, 2, 2, lambda x, w, t: x + 5 * (t - x))
attack("sign-flip", {"scale": 3}, 2, 2, lambda x, w, t: x - 3 * (t - x))

for name, found in {"cases": cases, "attacks": attacks}.items():
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in found)
    print("{" if name == "cases" else ",", f'"{name}": [\n{lines}\n]')
print("}")
