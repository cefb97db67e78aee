"""Settings come from the environment and a file, and a wrong one is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from streams.errors import UsageError
from streams.kafka.transactional_ids import transactional_id
from streams.settings import Settings, load_settings, variable
from streams.settings.settings import RENAMED
from streams.state.keys import PartitionKeys


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def default_model(**changes: object) -> str:
    source = Path(__file__).parents[2] / "enrichment" / "default_model.yaml"
    return yaml.safe_dump(yaml.safe_load(source.read_text("utf-8")) | changes)


def refusal(config: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(config).load_model()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_variable_of_the_contract_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that docs/contract.md section 7 lists are read."""
    monkeypatch.setenv("EBBTIDE_KAFKA_BOOTSTRAP_SERVERS", "kafka1:9092, kafka2:9093")
    monkeypatch.setenv("EBBTIDE_REDIS_URL", "rediss://somewhere:6380/3")
    monkeypatch.setenv("EBBTIDE_MODEL", "/etc/model.yaml")
    monkeypatch.setenv("EBBTIDE_PROCESSING_GUARANTEE", "at_least_once")
    monkeypatch.setenv("EBBTIDE_CLOCK", "event")
    monkeypatch.setenv("EBBTIDE_TOPIC_PREFIX", "eu.")
    monkeypatch.setenv("EBBTIDE_GROUP_ID", "shop")
    monkeypatch.setenv("EBBTIDE_WEB_PORT", "7000")
    monkeypatch.setenv("EBBTIDE_BASE_CURRENCY", "EUR")
    settings = load_settings()
    assert settings.kafka_bootstrap_servers == "kafka1:9092,kafka2:9093"
    assert (settings.redis_url, settings.model) == ("rediss://somewhere:6380/3", Path("/etc/model.yaml"))
    assert (settings.processing_guarantee, settings.clock) == ("at_least_once", "event")
    assert (settings.topic("purchases"), settings.change_namespace) == ("eu.purchases", "eu.:shop")
    assert (settings.web_port, settings.base_currency) == (7000, "EUR")


def test_the_environment_wins_over_the_file_and_an_empty_variable_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A value comes from the environment, else from the file, else it is the default."""
    config = write(tmp_path / "ebbtide.yaml", "group_id: from-file\nclock: event\nweb_port: 7000\n")
    monkeypatch.setenv("EBBTIDE_CONFIG", str(config))
    monkeypatch.setenv("EBBTIDE_GROUP_ID", "from-environment")
    monkeypatch.setenv("EBBTIDE_CLOCK", "")
    settings = load_settings()
    assert (settings.group_id, settings.clock, settings.web_port) == ("from-environment", "event", 7000)
    assert settings.processing_guarantee == "exactly_once"


def test_variables_of_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """EBBTIDE_TEST_* variables are left to the tests."""
    monkeypatch.setenv("EBBTIDE_TEST_KAFKA", "127.0.0.1:1")
    assert load_settings().kafka_bootstrap_servers == "127.0.0.1:9092"


def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would otherwise leave its setting at the default without a word."""
    monkeypatch.setenv("EBBTIDE_KAFKA_BOOTSTRAP_SERVER", "kafka:9092")
    expected = (
        "EBBTIDE_KAFKA_BOOTSTRAP_SERVER: no such setting; did you mean EBBTIDE_KAFKA_BOOTSTRAP_SERVERS?"
    )
    assert refusal() == expected


def test_an_unknown_variable_like_no_other_is_refused_with_all_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no name is near, all that are allowed are listed."""
    monkeypatch.setenv("EBBTIDE_XYZZY", "1")
    message = refusal()
    assert message.startswith("EBBTIDE_XYZZY: no such setting; allowed are EBBTIDE_")
    assert "EBBTIDE_REDIS_URL" in message


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_is_read_by_its_old_name_with_a_warning(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the environment and from a file, as version 0.1 did."""
    value = "true" if isinstance(Settings.model_fields[new].default, bool) else "1024"
    config = write(tmp_path / "ebbtide.yaml", f"{old}: {value}\n")
    assert str(getattr(load_settings(config), new)).lower() == value
    monkeypatch.setenv(variable(old), value)
    assert str(getattr(load_settings(), new)).lower() == value
    assert caplog.text.count("the old name will go") == 2


def test_a_wrong_value_of_an_old_name_is_named_by_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message begins with what the user wrote."""
    monkeypatch.setenv("EBBTIDE_STEP_MAX_BYTES", "1")
    assert refusal().startswith("EBBTIDE_STEP_MAX_BYTES: must be a whole number of bytes")
    monkeypatch.setenv("EBBTIDE_BATCH_MAX_BYTES", "1024")
    assert refusal().endswith("only one of the two may be set")


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    """The file's keys are checked like the variables."""
    config = write(tmp_path / "ebbtide.yaml", "redis: redis://localhost\n")
    assert refusal(config).startswith(f"redis in {config}, line 1: no such setting; ")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PROCESSING_GUARANTEE", "twice", "must be exactly_once or at_least_once, not 'twice'"),
        ("CLOCK", "sundial", "must be wall or event, not 'sundial'"),
        ("WEB_PORT", "65536", "must be a whole number from 1 to 65535, not '65536'"),
        ("WEB_PORT", "http", "must be a whole number from 1 to 65535, not 'http'"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka", "must be one or more host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,", "must be one or more host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:99999", "must be one or more host:port"),
        ("REDIS_URL", "http://localhost", "must be a URL such as redis://"),
        ("REDIS_URL", "redis://localhost:port", "must be a URL such as redis://"),
        ("TOPIC_PREFIX", "a/b", "must be up to 200 of the characters"),
        ("GROUP_ID", "{0}", "must be 1 to 200 of the characters"),
        ("BASE_CURRENCY", "euro", "must be three capital letters"),
        ("MAX_CLOCK_SKEW_S", "nan", "must be a number of seconds above 0"),
        ("BATCH_MAX_CUSTOMERS", "2001", "must be a whole number from 1 to 2000"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message begins with the variable and says what would be right."""
    monkeypatch.setenv(f"EBBTIDE_{name}", value)
    assert refusal().startswith(f"EBBTIDE_{name}: {allowed}")


def test_a_wrong_value_in_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    """YAML's `no` is no name, and is not taken for one."""
    config = write(tmp_path / "ebbtide.yaml", "group_id: no\n")
    assert refusal(config).startswith(f"group_id in {config}, line 1: must be 1 to 200 of the characters")


def test_true_is_no_number(tmp_path: Path) -> None:
    """YAML's `yes` is not taken for port 1."""
    config = write(tmp_path / "ebbtide.yaml", "web_port: yes\n")
    assert (
        refusal(config) == f"web_port in {config}, line 1: must be a whole number from 1 to 65535, not True"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [", "not YAML"), ("- a", "must be a mapping of settings to values"), (None, "cannot be read")],
)
def test_a_file_that_is_no_settings_file_is_refused(text: str | None, problem: str, tmp_path: Path) -> None:
    """The message names the file and what is wrong with it."""
    config = tmp_path / "ebbtide.yaml"
    if text is not None:
        write(config, text)
    assert refusal(config).startswith(f"settings file {config}: {problem}")


def test_an_empty_file_leaves_the_defaults(tmp_path: Path) -> None:
    """A file of comments alone is a settings file."""
    assert load_settings(write(tmp_path / "ebbtide.yaml", "# nothing yet\n")) == load_settings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an error nor the address for people holds a password, nor does repr hold the erasure key."""
    monkeypatch.setenv("EBBTIDE_REDIS_URL", "redis://user:hunter2@host:6379/1")
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY", "a-key-that-nobody-may-see")
    settings = load_settings()
    assert settings.redis_address == "redis://host:6379/1"
    assert "nobody" not in repr(settings)
    assert not settings.has_default_erasure_key
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY", "hunter2")
    assert refusal() == "EBBTIDE_ERASURE_KEY: must be a secret of at least 16 characters"
    monkeypatch.setenv("EBBTIDE_REDIS_URL", "redis://user:hunter2@host:x/1")
    assert "hunter2" not in refusal()


@pytest.mark.parametrize("setting", ["redis_url", "erasure_key", "earlier_erasure_keys"])
@pytest.mark.parametrize("where", ["environment", "settings file"])
def test_a_secret_may_be_in_a_file_of_its_own(
    setting: str, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As orchestrators mount them; the end of its last line is no part of it."""
    secret = (
        "redis://me:hunter2@host:6379/1" if setting == "redis_url" else "a key, with spaces and : # @ in it"
    )
    path = write(tmp_path / "secret", f"{secret}\n")
    if where == "environment":
        monkeypatch.setenv(f"EBBTIDE_{setting.upper()}_FILE", str(path))
        settings = load_settings()
    else:
        settings = load_settings(write(tmp_path / "ebbtide.yaml", f"{setting}_file: {path}\n"))
    found = {
        "redis_url": settings.redis_url,
        "erasure_key": settings.erasure_key.get_secret_value(),
        "earlier_erasure_keys": "".join(key.get_secret_value() for key in settings.earlier_erasure_keys),
    }
    assert found[setting] == secret
    assert "hunter2" not in repr(settings)


def test_the_environment_wins_over_the_file_however_either_names_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A key in a file of its own is as good as one beside the others."""
    mounted = write(tmp_path / "mounted", "the key of the environment")
    config = write(tmp_path / "ebbtide.yaml", "erasure_key: the key of the file\n")
    with monkeypatch.context() as environment:
        environment.setenv("EBBTIDE_ERASURE_KEY_FILE", str(mounted))
        assert load_settings(config).erasure_key.get_secret_value() == "the key of the environment"
    other = write(tmp_path / "other.yaml", f"erasure_key_file: {mounted}\n")
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY", "the key of the variable")
    assert load_settings(other).erasure_key.get_secret_value() == "the key of the variable"


def test_a_secret_given_twice_or_in_a_file_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The line names the setting; the path is not shown, since it may be the secret itself."""
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY_FILE", "hunter2-in-the-wrong-variable")
    assert refusal() == "EBBTIDE_ERASURE_KEY_FILE: the file cannot be read: No such file or directory"
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY_FILE", str(write(tmp_path / "empty", "\n")))
    assert refusal() == "EBBTIDE_ERASURE_KEY_FILE: the file is empty"
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY_FILE", str(write(tmp_path / "short", "hunter2")))
    assert refusal() == "EBBTIDE_ERASURE_KEY_FILE: must be a secret of at least 16 characters"
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY", "a-key-that-nobody-may-see")
    expected = "EBBTIDE_ERASURE_KEY and EBBTIDE_ERASURE_KEY_FILE: only one of the two may be set"
    assert refusal() == expected
    monkeypatch.delenv("EBBTIDE_ERASURE_KEY_FILE")
    monkeypatch.delenv("EBBTIDE_ERASURE_KEY")
    config = write(tmp_path / "ebbtide.yaml", "redis_url: redis://h\nredis_url_file: f\n")
    assert refusal(config) == f"redis_url and redis_url_file in {config}: only one of the two may be set"


@pytest.mark.parametrize(
    "given",
    [
        '["the first of the keys", "[a second, earlier one"]',
        "the first of the keys\n[a second, earlier one\n",
    ],
)
def test_earlier_keys_are_a_list(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of JSON or of lines; another process gets the same."""
    monkeypatch.setenv("EBBTIDE_EARLIER_ERASURE_KEYS", given)
    settings = load_settings()
    assert settings.erasure_keys.earlier == (b"the first of the keys", b"[a second, earlier one")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    for wrong in (
        '["hunter2"]',
        "hunter2",
        '["a key of enough characters", 7]',
        "[hunter2 of enough characters",
    ):
        monkeypatch.setenv("EBBTIDE_EARLIER_ERASURE_KEYS", wrong)
        assert refusal().startswith("EBBTIDE_EARLIER_ERASURE_KEYS: must be a JSON list of secrets")
        assert "hunter2" not in refusal()


@pytest.mark.parametrize(
    "line",
    [
        "redis_url: redis://me:hunter2@host: 6379",
        "erasure_key: *hunter2",
        "erasure_key: !hunter2 x",
        "erasure_key: @hunter2",
        "erasure_key: %hunter2",
        "erasure_key: 'hunter2",
        "erasure_key: {hunter2",
        "erasure_key: hunter2\x07",
        "redis://me:hunter2@host: 6379",
        "erasure_key: [hunter2, hunter2]",
        "redis_url: redis://me:hunter2@host/zero",
        "redis_url: redis://me:hunter2@host?no=1",
        "kafka_bootstrap_servers: me:hunter2@host",
        "? [hunter2]\n: 1",
    ],
)
def test_a_settings_file_that_is_wrong_is_not_quoted(line: str, tmp_path: Path) -> None:
    """An error of YAML names line and column alone: what stands there may be a secret."""
    config = write(tmp_path / "ebbtide.yaml", f"group_id: shop\n{line}\n")
    assert "hunter2" not in refusal(config)


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    """The last one would win without a word."""
    config = write(tmp_path / "ebbtide.yaml", "group_id: shop\nclock: event\ngroup_id: other\n")
    assert refusal(config) == f"settings file {config}: line 3: group_id comes twice, first in line 1"


def test_prefix_and_group_are_joined_so_that_no_others_give_the_same() -> None:
    """Prefix `eu-` with group `ebbtide` is not group `eu-ebbtide`; without a prefix it is the group's name alone."""
    prefixed, plain = Settings(topic_prefix="eu-"), Settings(group_id="eu-ebbtide")
    assert prefixed.joined_by_0_1 == plain.joined_by_0_1
    assert prefixed.change_namespace != plain.change_namespace
    assert transactional_id(prefixed, 0) != transactional_id(plain, 0)
    assert PartitionKeys.of(prefixed, 0).base != PartitionKeys.of(plain, 0).base
    assert (plain.change_namespace, transactional_id(plain, 3)) == ("eu-ebbtide", "ebbtide-eu-ebbtide-3")


def test_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are immutable, and those of another process can be the same."""
    settings = load_settings(topic_prefix="eu.", web_port=7000, base_currency="EUR", model="m.yaml")
    with pytest.raises(ValueError, match="frozen"):
        settings.clock = "event"  # type: ignore[misc]  # what the type checker refuses is refused at run time
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_built_in_model_takes_another_base_currency(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in model's base is USD, and it holds no rates, so the base can be any currency."""
    assert Settings().load_model().base_currency == "USD"
    monkeypatch.setenv("EBBTIDE_BASE_CURRENCY", "EUR")
    assert load_settings().load_model().rate_by_currency == {"EUR": 1}


@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_a_base_currency_is_refused_with_a_model_that_holds_rates(
    currency: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rates are base units per unit, so they fit one base only; the model says which."""
    model = write(tmp_path / "model.yaml", default_model(rates={"EUR": "1.08"}))
    monkeypatch.setenv("EBBTIDE_MODEL", str(model))
    assert load_settings().load_model().base_currency == "USD"
    monkeypatch.setenv("EBBTIDE_BASE_CURRENCY", currency)
    assert refusal().startswith("EBBTIDE_BASE_CURRENCY: must not be set with a model that holds rates")


def test_a_broken_model_file_is_refused_with_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the setting, the file and the key at fault."""
    model = write(tmp_path / "model.yaml", default_model(cost_ratio="plenty"))
    monkeypatch.setenv("EBBTIDE_MODEL", str(model))
    line = model.read_text("utf-8").splitlines().index("cost_ratio: plenty") + 1
    assert refusal().startswith(f"EBBTIDE_MODEL: model {model}: line {line}: cost_ratio: ")
    monkeypatch.setenv("EBBTIDE_MODEL", str(tmp_path / "nowhere.yaml"))
    assert refusal().startswith("EBBTIDE_MODEL: model ")


def test_horizons_are_those_of_the_settings() -> None:
    """How late a record may be, per topic, is a setting."""
    horizons = load_settings(purchases_horizon_days=100, engagements_horizon_days=7).horizons
    assert (horizons.purchases_days, horizons.engagements_days) == (100, 7)
