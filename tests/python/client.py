"""A client of zfl's aggregator in Python, with nothing but the standard library.

It joins with form=json, fetches its data, answers /ready, trains on /start and posts its update, until it is
told to stop; docs/wire-format.md has the messages. Its training is a stand-in that anyone can check: every
parameter grows by STEP.

    python3 client.py HOST:PORT CLIENT STEP

ZFL_JOIN_SECRET is the secret of an aggregator that lets nobody join without one.
"""

import base64
import hmac
import json
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
        self.welcome = json.loads(self.get(f"/id?client={wish}&port={port}&form=json", lines))
        assert self.welcome["protocol"] == 2, self.welcome
        self.id, examples = self.welcome["id"], self.welcome["num_examples"]
        self.inputs = self.get(f"/training-data?id={self.id}")
        self.labels = self.get(f"/training-labels?id={self.id}")
        assert len(self.inputs) == examples * self.welcome["layers"][0]
        assert len(self.labels) == examples
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
        """Takes a /start; the training goes on behind its answer."""
        self.state, self.round = "training", start["round"]
        self.done, self.total = 0, start["local_epochs"] * len(self.labels)
        threading.Thread(target=self.train, args=[start], daemon=True).start()

    def train(self, start):
        began = time.monotonic()
        model = numbers_of(start["sections"]["model"])
        model = [parameter + self.step for parameter in model]
        self.done, self.state = self.total, "sending"
        results = {
            "round": start["round"],
            "token": start["token"],
            "num_examples": len(self.labels),
            "steps": start["local_epochs"] * -(-len(self.labels) // start["batch_size"]),
            "loss": 0.5,
            "cost": {
                "train_us": int((time.monotonic() - began) * 1e6),
                "bytes_received": 0,
                "bytes_sent": 0,
            },
            "sections": {"model": text_of(model)},
        }
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
    print(f"client {client.id}: {len(client.labels)} examples", flush=True)
    client.stopped.wait()
