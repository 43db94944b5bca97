"""`everloop bench poison --log LOG`: what the gate lets through when a minute of the log is poisoned, five ways, at 20 moments."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from everloop.benches import Options, figures
from everloop.demo import profile
from everloop.figures import Report, report
from everloop.logs.catalogue import find
from everloop.logs.mapping import FeatureRule, Mapping
from everloop.logs.samples import samples
from everloop.logs.slates import Log
from everloop.runtime.kafka import KafkaNode
from everloop.runtime.settings import KafkaNodeSettings
from everloop.session import open_session
from feedback.errors import UsageError

SEEDS_PER_RUN = 7
"""Onsets per run asked for: three runs are twenty-one."""


def run(options: Options) -> Report:
    """Try the gate on a log. Raises UsageError without one."""
    from trainer.interpreter import prepare
    from trainer.learner import Learner
    from trainer.trial import Plan, summed, trials

    if not options.log:
        raise UsageError("bench poison needs --log LOG: what is clean must be a log's own")
    log = find(options.log, options.mapping)
    log = Log(log.path, _numbered(log.mapping))
    config = open_session(flags=profile.base(log.mapping)).loaded.config
    with (
        tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder,
        KafkaNode(Path(folder), settings=KafkaNodeSettings(heap_mib=512)) as node,
    ):
        prepare()
        found = trials(
            samples(log),
            bootstrap=node.bootstrap,
            features=config.features,
            settings=config.trainer,
            plan=Plan(seeds=options.runs * SEEDS_PER_RUN),
            make=Learner,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        return report("poison", figures(summed(found)))


def _numbered(mapping: Mapping) -> Mapping:
    """The mapping with a number feature, so that there is one to poison: a column of candidates that holds numbers."""
    if any(rule.kind == "number" for rule in mapping.feature):
        return mapping
    rule = next(
        (each for each in mapping.feature if each.of == "candidate" and not each.side and each.kind == "string"), None
    )
    if rule is None:
        raise UsageError(f"{mapping.path}: no feature of a candidate that could be read as a number")
    number = FeatureRule(name=f"{rule.name}_number", of="candidate", kind="number", column=rule.columns()[0])
    return replace(mapping, feature=(*mapping.feature, number))
