"""Every alert, by Prometheus' own promtool: series in, the alert out; and quiet beside the threshold."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.kit import alerts, groups
from tests.monitoring.promtool.build import PROMTOOL

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())
NAMES = [case["alert"] for case in CASES]

compiled = pytest.mark.k8s
"""For what needs promtool itself, which Go compiles."""


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The compiled tool."""
    return PROMTOOL.binary()


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as a plain rules file: what the operator makes of the PrometheusRule."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups()}))
    return path


def passes(promtool: Path, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def expected(case: dict[str, Any], labels: dict[str, str], says: str) -> dict[str, Any]:
    [rule] = [rule for rule in alerts() if rule["alert"] == case["alert"]]
    return {
        "exp_labels": labels | rule["labels"],
        "exp_annotations": rule["annotations"] | {"description": says},
    }


def trial(rules: Path, case: dict[str, Any], scene: dict[str, Any], wanted: list[dict[str, Any]]) -> str:
    """Write one unit test as promtool reads it; answer its path. Quiet is looked for at every minute, fire at one."""
    last = scene.get("at", case["fires"]["at"])
    times = [last] if wanted else [f"{minute}m" for minute in range(int(last.removesuffix("m")) + 1)]
    path = rules.parent / f"{case['alert']}-{'fires' if wanted else 'quiet'}.yaml"
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": str(values)} for name, values in scene["series"].items()],
        "alert_rule_test": [{"eval_time": at, "alertname": case["alert"], "exp_alerts": wanted} for at in times],
    }
    path.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": [test]}))
    return str(path)


@compiled
def test_prometheus_takes_every_rule(promtool: Path, rules: Path) -> None:
    passes(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(rules))


def test_every_alert_is_tried_once() -> None:
    assert sorted(NAMES) == sorted(rule["alert"] for rule in alerts())


@compiled
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_it_fires_and_says_what_is_wrong(promtool: Path, rules: Path, case: dict[str, Any]) -> None:
    scene = case["fires"]
    wanted = [expected(case, scene["labels"], scene["says"])]
    passes(promtool, "test", "rules", trial(rules, case, scene, wanted))


@compiled
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_it_is_quiet_beside_its_threshold(promtool: Path, rules: Path, case: dict[str, Any]) -> None:
    passes(promtool, "test", "rules", trial(rules, case, case["quiet"], []))
