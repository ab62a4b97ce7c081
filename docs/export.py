"""Reads what `zfl export` wrote with the programs that people use, and compares them.

    python -m venv v && v/bin/pip install pandas pyarrow safetensors numpy tensorboard
    v/bin/python docs/export.py RUN RUN-export [DATA]

PyTorch is tried where it is installed, and with DATA, a folder of IDX files with the run's examples for testing, its
forward pass is compared with the run's last round. What is not installed is said. Ends with 0 if all agree.
"""

import csv
import gzip
import hashlib
import json
import sys
import tomllib
from pathlib import Path

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file

run, out = map(Path, sys.argv[1:3])

config = tomllib.loads((run / "config.toml").read_text())
print(f"tomllib      {len(config)} keys, layers {config['layers']}")

try:
    import pandas
    import pyarrow.parquet
except ImportError as missing:
    print(f"pandas       not tried: {missing}")
else:
    for table in sorted((out / "csv").glob("*.csv")):
        tidy = pandas.read_csv(table)
        packed = pandas.read_parquet(out / "parquet" / f"{table.stem}.parquet")
        pandas.testing.assert_frame_equal(tidy, packed, check_dtype=False, check_exact=True)
        kinds = [str(field.type) for field in pyarrow.parquet.read_schema(out / f"parquet/{table.stem}.parquet")]
        print(f"pandas       {table.stem}: {tidy.shape[0]} rows, {tidy.shape[1]} columns; Parquet has the same", *sorted(set(kinds)))

with open(out / "csv/rounds.csv", newline="") as file:
    rounds = list(csv.DictReader(file))
column = lambda name: [float(row[name]) for row in rounds]
whole = json.loads((out / "run.json").read_text())
assert [row["round"] for row in whole["tables"]["rounds"]] == column("round")
print(f"json         {', '.join(whole['tables'])}")

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as missing:
    print(f"tensorboard  not tried: {missing}")
else:
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    for tag, name in {"test/accuracy": "test_accuracy", "test/loss": "test_loss", "bytes/up": "bytes_up"}.items():
        told = events.Scalars(tag)
        assert [one.step for one in told] == column("round")
        assert numpy.array_equal(numpy.float32([one.value for one in told]), numpy.float32(column(name)))
    print(f"tensorboard  {len(events.Tags()['scalars'])} scalars of {len(rounds)} rounds")

tensors = load_file(out / "model.safetensors")
with safe_open(out / "model.safetensors", "numpy") as file:
    about = json.loads(file.metadata()["zfl"])
count = len(about["layers"]) - 1
flat = [part for n in range(count) for part in (tensors[f"{2 * n}.weight"].T, tensors[f"{2 * n}.bias"])]
octets = b"".join(numpy.ascontiguousarray(part).astype("<f4").tobytes() for part in flat)
assert hashlib.sha256(octets).hexdigest() == about["sha256"] == whole["summary"]["model_sha256"]
print(f"safetensors  {about['layers']}, {about['activation']}, the hash of the run")

try:
    import torch
except ImportError:
    print("PyTorch      is not installed: not tried")
else:
    kind = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[about["activation"]]
    sizes = list(zip(about["layers"], about["layers"][1:]))
    layers = [part for pair in sizes for part in (torch.nn.Linear(*pair), kind())][:-1]
    model = torch.nn.Sequential(*layers)
    model.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
    print(f"PyTorch      {torch.__version__}: {model}")
    if len(sys.argv) > 3:

        def idx(name):
            path = next(path for path in Path(sys.argv[3]).iterdir() if path.name.startswith(name))
            octets = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
            sizes = numpy.frombuffer(octets, ">u4", octets[3], 4)
            return torch.from_numpy(numpy.frombuffer(octets, "u1", offset=4 + 4 * octets[3]).reshape(sizes).copy())

        inputs, labels = idx("t10k-images").flatten(1).float() / 255, idx("t10k-labels").long()
        with torch.no_grad():
            logits = model(inputs)
        accuracy = (logits.argmax(1) == labels).double().mean().item()
        loss = torch.nn.functional.cross_entropy(logits.double(), labels).item()
        told = column("test_accuracy")[-1], column("test_loss")[-1]
        assert abs(accuracy - told[0]) <= 1 / len(labels) and abs(loss - told[1]) < 1e-5, (accuracy, loss, told)
        print(f"PyTorch      accuracy {accuracy}, loss {loss:.7f}; zfl {told[0]}, {told[1]:.7f}")
