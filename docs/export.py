"""Reads what `zfl export` wrote with the programs that people use, and compares them.

    python -m venv v && v/bin/pip install pandas pyarrow safetensors numpy tensorboard
    v/bin/python docs/export.py RUN RUN-export

PyTorch is tried where it is installed. Ends with 0 if all agree.
"""

import hashlib
import json
import sys
import tomllib
from pathlib import Path

import numpy
import pandas
import pyarrow.parquet
from safetensors import safe_open
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run, out = map(Path, sys.argv[1:])

config = tomllib.loads((run / "config.toml").read_text())
print(f"tomllib      {len(config)} keys, layers {config['layers']}")

for csv in sorted((out / "csv").glob("*.csv")):
    tidy = pandas.read_csv(csv)
    packed = pandas.read_parquet(out / "parquet" / f"{csv.stem}.parquet")
    pandas.testing.assert_frame_equal(tidy, packed, check_dtype=False, check_exact=True)
    kinds = [str(field.type) for field in pyarrow.parquet.read_schema(out / f"parquet/{csv.stem}.parquet")]
    print(f"pandas       {csv.stem}: {tidy.shape[0]} rows, {tidy.shape[1]} columns; Parquet has the same", *sorted(set(kinds)))

rounds = pandas.read_csv(out / "csv/rounds.csv")
whole = json.loads((out / "run.json").read_text())
assert [row["round"] for row in whole["tables"]["rounds"]] == list(rounds["round"])
print(f"json         {', '.join(whole['tables'])}")

events = EventAccumulator(str(out / "tensorboard"))
events.Reload()
for tag, column in {"test/accuracy": "test_accuracy", "test/loss": "test_loss", "bytes/up": "bytes_up"}.items():
    told = events.Scalars(tag)
    assert [one.step for one in told] == list(rounds["round"])
    assert numpy.array_equal(numpy.float32([one.value for one in told]), rounds[column].astype("float32"))
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
    print(f"PyTorch      {model}")
