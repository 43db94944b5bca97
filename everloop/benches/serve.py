"""`everloop bench serve`: the model server beside its peers, the gateway in front of a whole loop, and what it does without each part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from everloop.benches import Options, figures, rivals
from everloop.benches.outage import outages
from everloop.benches.whole import whole
from everloop.figures import Report, report

_CANDIDATE: Final = {f"c{number}": f"v{number}" for number in range(3)}
_CONTEXT: Final = ("device", "region", "referrer")
FEATURES: Final[list[dict[str, Any]]] = [
    {"name": "user", "source": "user"},
    {"name": "item", "source": "item"},
    *({"name": name, "source": "context"} for name in _CONTEXT),
    *({"name": name, "source": "candidate"} for name in _CANDIDATE),
]
"""Eight string features."""
_SECONDS: Final = 5.0
"""Of each load on a model server."""


def run(options: Options) -> Report:
    """Measure both."""
    from serving.gateway.bench import UNITS, Bench, seed
    from serving.model_server.bench import run as model_server

    measured = [*model_server(options.runs), *rivals.ours(_SECONDS, options.runs)]
    with whole({"features": FEATURES, "gateway.ticks": False}) as loop:
        config = loop.session.loaded.config
        redis = replace(config.redis, url=loop.redis)
        seed(redis)
        bench = Bench(
            kafka=loop.kafka,
            redis=redis,
            features=config.features,
            settings=config.gateway,
            model_server=loop.supervisor.addresses["model grpc"],
            candidate_features=_CANDIDATE,
        )
        found = bench.steady(options.runs)
        away = outages(loop, _CANDIDATE)
        found |= bench.full(options.runs)
    measured += [(name, UNITS[name], values) for name, values in found.items()]
    measured += away
    mine = figures(measured)
    beside = rivals.peers(_SECONDS, {each.name: each.value for each in mine}) if options.peers else []
    return report("serve", mine, beside)
