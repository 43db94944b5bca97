"""The same join in Bytewax: both topics into one stateful step, snapshots every ten seconds: at least once, its strongest with Kafka.

python bytewax_join.py BOOTSTRAP NAMESPACE SLATES STATE_FOLDER
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

decode, encode = msgspec.json.decode, msgspec.json.encode
OFFSET_END = -1


def joined(state: dict | None, event: dict) -> tuple[dict | None, list[dict]]:
    """A slate goes out at once as negatives, a click on it a second time as a positive."""
    state = state or {"slate": None, "seen": [], "early": []}
    if event["type"] == "prediction":
        if state["slate"] is not None:
            return state, []
        state["slate"] = event
        n = len(event["items"])
        out = [{**event, "type": "sample", "emissions": [0] * n, "positions": list(range(n))}]
        early, state["early"] = state["early"], []
        for each in early:
            out += joined(state, each)[1]
        return state, out
    slate = state["slate"]
    if slate is None:
        state["early"].append(event)
        return state, []
    if event["item_id"] not in slate["items"] or event["event_id"] in state["seen"]:
        return state, []
    state["seen"].append(event["event_id"])
    at = slate["items"].index(event["item_id"])
    features = {name: [column[at]] for name, column in slate["features"].items()}
    return state, [
        {
            **slate,
            "type": "sample",
            "emissions": [2],
            "positions": [at],
            "items": [event["item_id"]],
            "features": features,
        }
    ]


def main(bootstrap: str, namespace: str, slates: str, folder: str) -> None:
    """Join all that is in the topics; print the rate."""
    wanted, times, counted = int(slates), [], [0]
    flow = Dataflow("join")
    topics = [f"{namespace}predictions", f"{namespace}outcomes"]
    source = KafkaSource([bootstrap], topics, tail=False, batch_size=1000)
    events = op.map("decode", op.input("in", flow, source), lambda record: decode(record.value))
    keyed = op.key_on(
        "key", op.filter("events", events, lambda event: event["type"] != "tick"), lambda e: e["request_id"]
    )

    def message(pair: tuple[str, dict]) -> KafkaSinkMessage:
        counted[0] += 1
        times[:] = [times[0] if times else time.monotonic(), time.monotonic()]
        return KafkaSinkMessage(pair[0].encode(), encode(pair[1]))

    samples = op.map("encode", op.stateful_flat_map("join", keyed, joined), message)
    op.output("out", samples, KafkaSink([bootstrap], f"{namespace}bytewax-samples"))
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    init_db_dir(home, 1)
    cluster_main(flow, [], 0, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(home)))
    if counted[0] < wanted:
        raise SystemExit(f"{counted[0]} samples of {wanted} slates")
    version = importlib.metadata.version("bytewax")
    rate = wanted / (times[1] - times[0])
    print(json.dumps({"name": "Bytewax", "version": version, "guarantee": "at-least-once", "slates_per_s": rate}))


if __name__ == "__main__":
    main(*sys.argv[1:])
