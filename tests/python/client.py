"""A client of zfl's aggregator in Python, with nothing but the standard library.

It joins with form=json, fetches its data, answers /ready, trains on /start and posts its update, until it is
told to stop; docs/wire-format.md has the messages. Its training is a stand-in that anyone can check: every
parameter grows by STEP. Its evaluation is a real one: the model on the examples that it holds out, in Python's
doubles, so its loss is that of a device but for rounding.

    python3 client.py HOST:PORT CLIENT STEP

ZFL_JOIN_SECRET is the secret of an aggregator that lets nobody join without one.
"""

import base64
import hmac
import json
import math
import os
import secrets
import struct
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def numbers_of(text):
    """The numbers of a section: base64 of little-endian f32."""
    octets = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(octets) // 4}f", octets))


def text_of(numbers):
    """The section of numbers. Packing rounds to the nearest f32."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


class Client:
    """One client: its data, and what it is doing."""

    def __init__(self, aggregator, wish, step):
        self.aggregator, self.step = aggregator, step
        self.state, self.round, self.done, self.total = "ready", 0, 0, 0
        self.joined, self.stopped = threading.Event(), threading.Event()
        # Only the aggregator is told, so that only the aggregator is obeyed.
        self.word = secrets.token_hex(16)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        port = self.server.server_address[1]
        secret = os.environ.get("ZFL_JOIN_SECRET")
        lines = {"Zfl-Secret": secret} if secret else {}
        target = f"/id?client={wish}&port={port}&form=json&can=evaluate"
        self.welcome = json.loads(self.get(target, lines))
        assert self.welcome["protocol"] == 2, self.welcome
        self.id, self.examples = self.welcome["id"], self.welcome["num_examples"]
        self.inputs = self.get(f"/training-data?id={self.id}")
        self.labels = self.get(f"/training-labels?id={self.id}")
        # Examples held out follow those of the training.
        assert len(self.labels) == self.examples + self.welcome.get("holdout", 0)
        assert len(self.inputs) == len(self.labels) * self.welcome["layers"][0]
        self.joined.set()

    def get(self, target, lines={}):
        lines = {"Zfl-Word": self.word, **lines}
        request = urllib.request.Request(f"http://{self.aggregator}{target}", headers=lines)
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def ready(self):
        """The answer to GET /ready."""
        return {
            "id": self.id,
            "state": self.state,
            "round": self.round,
            "done_examples": self.done,
            "total_examples": self.total,
        }

    def begin(self, start):
        """Takes a /start; the work goes on behind its answer."""
        self.state, self.round = "training", start["round"]
        self.done, self.total = 0, start["local_epochs"] * self.examples
        threading.Thread(target=self.work, args=[start], daemon=True).start()

    def work(self, start):
        began = time.monotonic()
        model = numbers_of(start["sections"]["model"])
        results = self.evaluate(model) if start.get("evaluate") else self.train(model, start)
        self.done, self.state = self.total, "sending"
        results["round"], results["token"] = start["round"], start["token"]
        results["cost"] = {
            "train_us": int((time.monotonic() - began) * 1e6),
            "bytes_received": 0,
            "bytes_sent": 0,
        }
        self.post(results)

    def train(self, model, start):
        """What Results says of a training."""
        return {
            "num_examples": self.examples,
            "steps": start["local_epochs"] * -(-self.examples // start["batch_size"]),
            "loss": 0.5,
            "sections": {"model": text_of([parameter + self.step for parameter in model])},
        }

    def evaluate(self, model):
        """What Evaluated says of the examples held out."""
        width, classes = self.welcome["layers"][0], self.welcome["layers"][-1]
        assert classes <= 32, "of more classes the confusion has another form"
        loss, confusion = 0.0, [0.0] * classes**2
        for example in range(self.examples, len(self.labels)):
            octets = self.inputs[example * width : (example + 1) * width]
            logits = self.forward(model, [octet / 255 for octet in octets])
            label, top = self.labels[example], max(logits)
            loss += math.log(sum(math.exp(logit - top) for logit in logits)) + top - logits[label]
            confusion[label * classes + logits.index(top)] += 1
        held_out = len(self.labels) - self.examples
        return {
            "num_evaluated": held_out,
            "loss": loss / held_out,
            "sections": {"confusion": text_of(confusion)},
        }

    def forward(self, model, units):
        """The logits of an example: layer by layer the weights [inputs, outputs], then the biases."""
        layers, at = self.welcome["layers"], 0
        for d_in, d_out in zip(layers, layers[1:]):
            weights, at = model[at : at + d_in * d_out], at + d_in * d_out
            biases, at = model[at : at + d_out], at + d_out
            units = [
                biases[out] + sum(units[i] * weights[i * d_out + out] for i in range(d_in))
                for out in range(d_out)
            ]
            if at < len(model):
                units = [self.activate(unit) for unit in units]
        return units

    def activate(self, unit):
        is_relu = self.welcome["activation"] == "relu"
        return max(unit, 0.0) if is_relu else 1 / (1 + math.exp(-unit))

    def post(self, results):
        request = urllib.request.Request(
            f"http://{self.aggregator}/results?id={self.id}",
            data=json.dumps(results).encode(),
            headers={"Content-Type": "application/json", "Zfl-Word": self.word},
        )
        # Ready before the answer, since a /start may follow on it at once.
        self.state = "ready"
        urllib.request.urlopen(request).close()

    def handler(client):
        class Handler(BaseHTTPRequestHandler):
            def is_of_the_aggregator(self):
                """True if the request shows the word, and is of no page of a browser."""
                lines = self.headers
                is_of_a_page = "Origin" in lines or lines.get("Sec-Fetch-Site", "none") != "none"
                shown = lines.get("Zfl-Word", "").encode()
                return not is_of_a_page and hmac.compare_digest(shown, client.word.encode())

            def do_GET(self):
                if not self.is_of_the_aggregator():
                    self.answer(403, {"error": "this client obeys its aggregator alone"})
                elif self.path != "/ready":
                    self.answer(404, {"error": "a device serves /ready, /start and /stop"})
                elif client.joined.is_set():
                    self.answer(200, client.ready())
                else:
                    self.answer(503, {"error": "still fetching its data"})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not self.is_of_the_aggregator():
                    self.answer(403, {"error": "this client obeys its aggregator alone"})
                elif self.path == "/stop":
                    self.answer(200, {})
                    client.stopped.set()
                elif self.headers["Content-Type"] != "application/json":
                    self.answer(415, {"error": "this client takes application/json"})
                else:
                    client.begin(json.loads(body))
                    self.answer(202, client.ready())

            def answer(self, status, body):
                octets = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(octets)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(octets)

            def log_message(self, *_):
                pass

        return Handler


if __name__ == "__main__":
    client = Client(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    print(f"client {client.id}: {client.examples} examples", flush=True)
    client.stopped.wait()
