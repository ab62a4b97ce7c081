"""Prints the table of `outside.rs` by an accountant from elsewhere: pip install dp-accounting==0.6.0"""

import dp_accounting
from dp_accounting import rdp

CASES = [
    (0.01, 4.0, 10_000, 1e-5),
    (0.01, 1.1, 1000, 1e-5),
    (0.1, 1.0, 100, 1e-5),
    (0.01, 0.5, 100, 1e-6),
    (1.0, 4.0, 30, 1e-5),
    (0.2, 2.0, 50, 1e-4),
    (0.001, 0.8, 5000, 1e-7),
]


def epsilon(sampling, noise_multiplier, rounds, delta):
    event = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sampling < 1:
        event = dp_accounting.PoissonSampledDpEvent(sampling, event)
    accountant = rdp.RdpAccountant()
    accountant.compose(event, rounds)
    return accountant.get_epsilon(delta)


def epsilon_of_fixed_size(clients, chosen, noise_multiplier, rounds, delta):
    neighbours = dp_accounting.NeighboringRelation.REPLACE_ONE
    noise = dp_accounting.GaussianDpEvent(noise_multiplier)
    accountant = rdp.RdpAccountant(neighboring_relation=neighbours)
    accountant.compose(dp_accounting.SampledWithoutReplacementDpEvent(clients, chosen, noise), rounds)
    return accountant.get_epsilon(delta)


for case in CASES:
    print(*case, float(epsilon(*case)))
for case in [(1000, 10, 2.0, 100, 1e-5), (1000, 100, 4.0, 50, 1e-5), (100, 10, 1.0, 30, 1e-3)]:
    print(*case, float(epsilon_of_fixed_size(*case)))
