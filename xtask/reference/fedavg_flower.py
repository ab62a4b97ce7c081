"""Federated averaging in Flower's simulation, its clients in NumPy: the training of fedavg.py.

`python fedavg_flower.py FOLDER ROUNDS` prints what fedavg.py prints. The engine imports this file in each of its
processes, which find the folder in the environment.
"""

import os
import sys
import time

BEGIN = time.perf_counter()
if __name__ == "__main__":
    os.environ["MNIST"] = os.path.abspath(sys.argv[1])
    os.environ["ROUNDS"] = sys.argv[2]
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    # One thread for each process, of which there is one for each processor.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import functools
import statistics

import fedavg
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client, server = ClientApp(), ServerApp()
moments, accuracies = [], []


@functools.lru_cache
def data():
    return fedavg.load(os.environ["MNIST"])


@client.train()
def train(message, context):
    inputs, labels, _, _ = data()
    own = fedavg.partition(inputs, labels, int(context.node_config["partition-id"]))
    model = fedavg.train(message.content["arrays"].to_numpy_ndarrays(), *own)
    metrics = MetricRecord({"num-examples": fedavg.COUNT})
    content = RecordDict({"arrays": ArrayRecord(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


def evaluate(_, arrays):
    _, _, inputs, labels = data()
    accuracies.append(fedavg.accuracy(arrays.to_numpy_ndarrays(), inputs, labels))
    moments.append(time.perf_counter())
    return MetricRecord({"accuracy": accuracies[-1]})


@server.main()
def main(grid, context):
    clients = fedavg.CLIENTS
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(fedavg.begin()),
        num_rounds=int(os.environ["ROUNDS"]),
        evaluate_fn=evaluate,
    )


if __name__ == "__main__":
    import fedavg_flower
    from flwr.simulation import run_simulation

    # The module that the clients import, and not the program of that name.
    run_simulation(
        server_app=fedavg_flower.server,
        client_app=fedavg_flower.client,
        num_supernodes=fedavg.CLIENTS,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    moments, accuracies = fedavg_flower.moments, fedavg_flower.accuracies
    times = [after - before for before, after in zip(moments, moments[1:])]
    print(f"{statistics.median(times):.6f} {time.perf_counter() - BEGIN:.6f} {accuracies[-1]:.2f}")
