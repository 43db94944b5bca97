"""`python -m serving.follower`: a follower without the rest of everloop, for images and drills."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

import msgspec

from feedback.settings import KafkaSettings
from serving.follower.main import run
from serving.follower.settings import FollowerSettings


def main(argv: list[str]) -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m serving.follower", description=__doc__)
    parser.add_argument("--kafka", default="127.0.0.1:9092", metavar="HOST:PORT")
    parser.add_argument("--namespace", default="", help="prefix of the topics")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--replica", default=socket.gethostname())
    parser.add_argument("--model-server", default="127.0.0.1:8500", metavar="HOST:PORT", help="of its gRPC")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--http-host", default="127.0.0.1")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="fields of [follower]")
    options = parser.parse_args(argv)
    settings = msgspec.json.decode(options.settings, type=FollowerSettings)
    settings.check()
    return run(
        kafka=KafkaSettings(bootstrap=options.kafka, namespace=options.namespace),
        settings=settings,
        data=options.data,
        replica=options.replica,
        model_server=options.model_server,
        http_port=options.http_port,
        http_host=options.http_host,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
