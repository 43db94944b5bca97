"""The same join in Quix Streams: one dataframe over both topics, keyed state, exactly-once processing.

python quix_join.py BOOTSTRAP NAMESPACE SLATES STATE_FOLDER
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time

import msgspec
from quixstreams import Application


def joined(event: dict, state) -> list[dict]:
    """A slate goes out at once as negatives, a click on it a second time as a positive."""
    if event["type"] == "prediction":
        if state.get("slate") is not None:
            return []
        state.set("slate", event)
        n = len(event["items"])
        return [{**event, "type": "sample", "emissions": [0] * n, "positions": list(range(n))}]
    slate = state.get("slate")
    if event["type"] != "outcome" or slate is None or event["item_id"] not in slate["items"]:
        return []
    seen = state.get("seen", default=[])
    if event["event_id"] in seen:
        return []
    state.set("seen", [*seen, event["event_id"]])
    at = slate["items"].index(event["item_id"])
    features = {name: [column[at]] for name, column in slate["features"].items()}
    return [
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
    """Join until every slate is out; print the rate."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{namespace}quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=folder,
        loglevel="ERROR",
        auto_create_topics=True,
    )
    decode, encode = msgspec.json.decode, msgspec.json.encode
    out = app.topic(f"{namespace}quix-samples", value_serializer="bytes", key_serializer="bytes")
    frames = [
        app.dataframe(app.topic(f"{namespace}{name}", value_deserializer="bytes", key_deserializer="bytes")).apply(
            decode
        )
        for name in ("predictions", "outcomes")
    ]
    done, wanted, times = 0, int(slates), []

    def count(_: object) -> None:
        nonlocal done
        done += 1
        times[:] = [times[0] if times else time.monotonic(), time.monotonic()]
        if done == wanted + wanted // 10:
            app.stop()

    frame = frames[0].concat(frames[1]).filter(lambda event: event["type"] != "tick")
    frame = frame.apply(joined, stateful=True, expand=True).update(count).apply(encode)
    frame.to_topic(out)
    app.run()
    version = importlib.metadata.version("quixstreams")
    rate = wanted / (times[1] - times[0])
    print(json.dumps({"name": "Quix Streams", "version": version, "guarantee": "exactly-once", "slates_per_s": rate}))


if __name__ == "__main__":
    main(*sys.argv[1:])
