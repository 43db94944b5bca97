"""Our top-level names are generic: nobody else may own one here, and each must be ours."""

from __future__ import annotations

from importlib import import_module, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("feedback", "streams", "trainer", "serving", "k8s", "newsroom", "everloop")


@pytest.mark.parametrize("name", NAMES)
def test_no_other_installed_distribution_owns_our_name(name: str) -> None:
    owners = set(metadata.packages_distributions().get(name, []))
    assert owners <= {"everloop"}, f"{owners} would shadow our {name}/: uninstall the other, or rename ours"


@pytest.mark.parametrize("name", NAMES)
def test_the_package_that_python_finds_is_the_one_beside_this_test(name: str) -> None:
    assert import_module(name).__path__[0] == str(ROOT / name)


@pytest.mark.parametrize("name", NAMES)
def test_every_package_says_what_belongs_in_it(name: str) -> None:
    assert (import_module(name).__doc__ or "").strip()
