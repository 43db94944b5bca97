"""One file, read once: every mistake is one line that says where, what and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from everloop.config.load import load
from feedback.errors import ConfigError


@dataclass(frozen=True)
class Mistake:
    text: str
    key: str
    value: str
    allowed: str


MISTAKES = [
    # a group that nobody declares
    Mistake("[kafak]\nbootstrap = 'a:1'", "kafak", "{'bootstrap': 'a:1'}", "did you mean kafka?"),
    # a key that the group does not have
    Mistake("[kafka]\npartition = 3", "kafka.partition", "3", "did you mean partitions?"),
    # nothing near: all known ones are named
    Mistake("[redis]\nxyz = 3", "redis.xyz", "3", "known here: url, namespace, timeout_s"),
    # a wrong type
    Mistake("[kafka]\npartitions = 'many'", "kafka.partitions", "'many'", "a whole number that is 1 or more"),
    Mistake("[kafka]\npartitions = 2.5", "kafka.partitions", "2.5", "a whole number that is 1 or more"),
    Mistake("[kafka]\nbootstrap = 9092", "kafka.bootstrap", "9092", "a string"),
    Mistake("[runtime.redis]\nappendonly = 'yes'", "runtime.redis.appendonly", "'yes'", "true or false"),
    # out of range
    Mistake("[redis]\ntimeout_s = -1", "redis.timeout_s", "-1", "a number above 0"),
    Mistake("[redis]\ntimeout_s = inf", "redis.timeout_s", "inf", "a number above 0"),
    Mistake("[redis]\ntimeout_s = nan", "redis.timeout_s", "nan", "a number above 0"),
    Mistake("[runtime.kafka]\nport = 70000", "runtime.kafka.port", "70000", "a whole number from 0 to 65535"),
    Mistake("[kafka]\nsecurity = 'TLS'", "kafka.security", "'TLS'", 'one of "PLAINTEXT", "SSL"'),
    # a value where a table belongs
    Mistake("runtime = 3", "runtime", "3", "must be a table"),
    Mistake("[runtime]\nkafka = 3", "runtime.kafka", "3", "must be a table"),
    # fields that contradict each other
    Mistake("[kafka]\nsecurity = 'SASL_SSL'", "kafka.sasl_mechanism", "''", "needed with"),
    Mistake("[streams.join]\nwindow_s = -5", "streams.join.window_s", "-5", "must be a number above 0"),
    Mistake("[[features]]\nname = 'a'\nsource = 'users'", "features.0.source", "'users'", 'one of "user", "item"'),
    Mistake("[[features]]\nname = 'a'", "features.0.source", "None", "must be set"),
    Mistake("[[features]]\nname = 'a'\nsource = 'user'\nknid = 's'", "features.0.knid", "'s'", "did you mean kind?"),
    Mistake("features = []", "features", "[]", "at least one"),
    # groups that contradict each other
    Mistake("[gateway]\nmodel = 'films'", "gateway.model", "'films'", "the same as trainer.model.name, 'news'"),
    Mistake("[trainer.model]\ncrosses = ['user*itm']", "trainer.model.crosses", "'user*itm'", "different features"),
    Mistake("[runtime]\nbackoff_most_s = 0.1", "runtime.backoff_most_s", "0.1", "at least runtime.backoff_first_s"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.key)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, mistake: Mistake) -> None:
    file = tmp_path / "everloop.toml"
    file.write_text(mistake.text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    text = str(caught.value)
    assert text.startswith(f"{file}: {mistake.key} = {mistake.value}")
    assert mistake.allowed in text
    assert "\n" not in text


def test_a_file_that_is_not_toml_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "everloop.toml"
    file.write_text("[kafka\n")
    with pytest.raises(ConfigError, match="must be TOML") as caught:
        load(file, environ={})
    assert "\n" not in str(caught.value)


def test_features_and_keys_are_lists_of_tables(tmp_path: Path) -> None:
    file = tmp_path / "everloop.toml"
    file.write_text(
        "[[features]]\nname = 'who'\nsource = 'user'\n[[features]]\nname = 'what'\nsource = 'item'\n"
        f"[[gateway.keys]]\nname = 'shop'\nsha256 = '{'0' * 64}'\nscopes = ['outcomes']\n"
    )
    config = load(file, environ={}).config
    assert config.spec.names() == ("who", "what")
    assert config.gateway.keys[0].scopes == ("outcomes",)


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.toml", environ={})


def test_the_environment_overrides_the_file_and_a_flag_overrides_both(tmp_path: Path) -> None:
    file = tmp_path / "everloop.toml"
    file.write_text("[kafka]\nbootstrap = 'file:1'\nnamespace = 'file-'\npartitions = 3\n")
    environ = {"EVERLOOP_KAFKA__BOOTSTRAP": "environment:2", "EVERLOOP_KAFKA__NAMESPACE": "environment-"}
    loaded = load(file, environ=environ, flags={"kafka.bootstrap": "flag:3"})
    assert loaded.config.kafka.bootstrap == "flag:3"
    assert loaded.config.kafka.namespace == "environment-"
    assert loaded.config.kafka.partitions == 3
    origins = {key: origin for key, _, origin in loaded.table()}
    assert origins["kafka.bootstrap"] == "--kafka.bootstrap"
    assert origins["kafka.namespace"] == "EVERLOOP_KAFKA__NAMESPACE"
    assert origins["kafka.partitions"] == str(file)
    assert origins["kafka.replication"] == "default"


@pytest.mark.parametrize(
    ("variable", "text", "key", "expected"),
    [
        ("EVERLOOP_KAFKA__PARTITIONS", "16", "kafka.partitions", "16"),
        ("EVERLOOP_REDIS__TIMEOUT_S", "2", "redis.timeout_s", "2.0"),
        ("EVERLOOP_RUNTIME__REDIS__APPENDONLY", "true", "runtime.redis.appendonly", "true"),
        # text is taken as it stands, though it looks like a number or a word of TOML
        ("EVERLOOP_KAFKA__NAMESPACE", "12", "kafka.namespace", "12"),
        ("EVERLOOP_KAFKA__NAMESPACE", "true", "kafka.namespace", "true"),
        ("EVERLOOP_KAFKA__SECURITY", "SSL", "kafka.security", "SSL"),
    ],
)
def test_a_variable_is_read_as_its_field_s_type(variable: str, text: str, key: str, expected: str) -> None:
    table = {name: value for name, value, _ in load(None, environ={variable: text}).table()}
    assert table[key] == expected


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("EVERLOOP_KAFKA__PARTITIONS", "many", "kafka.partitions = 'many': must be a whole number"),
        ("EVERLOOP_KAFKA__PARTITION", "3", "kafka.partition = '3': unknown key; did you mean partitions?"),
        ("EVERLOOP_NOBODY__X", "3", "nobody = '3': unknown key"),
        ("EVERLOOP_KAFKA__PARTITIONS__X", "3", "unknown key|is a whole number"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(variable: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(None, environ={variable: text})
    assert str(caught.value).startswith(variable)


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_settings() -> None:
    load(
        None, environ={"EVERLOOP_GATEWAY_SERVICE_HOST": "10.0.0.1", "EVERLOOP_GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80"}
    )


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    environ = {"EVERLOOP_KAFKA__SASL_PASSWORD": "hunter2", "EVERLOOP_REDIS__URL": "redis://:hunter3@localhost"}
    loaded = load(None, environ=environ)
    assert loaded.config.kafka.sasl_password == "hunter2"
    assert "hunter" not in repr(loaded.table()) + repr(loaded.config)
