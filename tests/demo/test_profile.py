from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from everloop.config.load import load
from everloop.demo import folder, profile, toml
from everloop.folders import exclusive
from everloop.logs.catalogue import shipped
from everloop.logs.mapping import load as load_mapping
from feedback.errors import UsageError


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_profile_of_each_shipped_mapping_is_a_right_configuration(name: str, tmp_path: Path) -> None:
    mapping = load_mapping(shipped()[name])
    file = tmp_path / "everloop.toml"
    file.write_text(profile.written(profile.settings(mapping), "Made by a test."))
    config = load(file, environ={}).config
    assert config.streams.join.window_s == mapping.window_s
    assert config.streams.join.lateness_s == mapping.lateness_s
    assert config.trainer.model.crosses == mapping.crosses
    assert config.features == mapping.features()
    assert not config.gateway.ticks
    assert config.gateway.slate.max_count >= mapping.slate.most


def test_settings_come_back_from_their_text() -> None:
    tree = toml.tree({"a.b": 1, "a.c.d e": 'say "x"\n', "list": [1.5, True], "rows": [{"name": "x"}, {"name": "y"}]})
    assert tomllib.loads(toml.text(tree)) == tree


def test_the_demo_empties_its_own_folder_and_no_other(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    folders = folder.begin(mine)
    (folders.root / "kafka").mkdir()
    (folders.root / "kafka" / "log").write_text("old")
    assert [path.name for path in folder.begin(mine).root.iterdir()] == [folder.MARK]
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match="not the demo's"):
        folder.begin(other)
    assert (other / "thesis.tex").read_text() == "years"


def test_the_demo_leaves_a_folder_alone_in_which_a_loop_runs(tmp_path: Path) -> None:
    folders = folder.begin(tmp_path / "mine")
    with exclusive(folders), pytest.raises(UsageError, match="everloop is up"):
        folder.begin(folders.root)
