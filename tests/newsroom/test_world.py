"""The world is a function of its seed, and luck a function of what it is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedback.errors import UsageError
from newsroom.settings import WorldSettings
from newsroom.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldSettings(days=0.05), seed=3)


def test_the_same_seed_is_the_same_world_and_another_is_not(world: World) -> None:
    again, other = World(world.settings, seed=3), World(world.settings, seed=4)
    assert np.array_equal(again.visits.t, world.visits.t)
    assert np.array_equal(again.candidates(again.visits), world.candidates(world.visits))
    assert not np.array_equal(other.visits.t[:50], world.visits.t[:50])


def test_no_article_is_offered_twice_to_one_request(world: World) -> None:
    offered = np.sort(world.candidates(world.visits), axis=1)
    assert (np.diff(offered, axis=1) > 0).all()


def test_two_slates_that_show_an_item_at_one_place_meet_the_same_luck(world: World) -> None:
    offered = world.candidates(world.visits)
    one, two = offered[:, :5], offered[:, [0, 9, 8, 7, 6]]
    assert np.array_equal(world.clicks(world.visits, one)[:, 0], world.clicks(world.visits, two)[:, 0])


def test_clicks_come_as_often_as_their_probability_says(world: World) -> None:
    slates = world.candidates(world.visits)[:, :5]
    truth = world.probabilities(world.visits, slates)
    clicked = world.clicks(world.visits, slates)
    error = np.sqrt((truth * (1 - truth)).sum())
    assert abs(clicked.sum() - truth.sum()) < 5 * error
    assert ((truth > 0) & (truth < 1)).all()


def test_a_lower_place_is_looked_at_less(world: World) -> None:
    slates = np.repeat(world.candidates(world.visits)[:, :1], 5, axis=1)
    seen = replace_fatigue(world, 0.0).looked_at(slates)
    assert (np.diff(seen[0]) < 0).all()


def test_a_slate_longer_than_the_settings_allow_is_refused_with_the_number(world: World) -> None:
    positions = world.settings.slates.positions
    with pytest.raises(UsageError, match=f"positions = {positions} at most"):
        world.looked_at(world.candidates(world.visits)[:, : positions + 1])


def replace_fatigue(world: World, fatigue: float) -> World:
    return World(replace(world.settings, slates=replace(world.settings.slates, fatigue=fatigue)), seed=world.seed)
