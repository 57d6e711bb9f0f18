"""Tests the checks of preflight: each unsafe setting fails with what to do, and a closed house passes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.rights import Right
from penstock.cli.main import main
from penstock.cli.preflight import needed_rights
from penstock.cli.preflight_checks import CheckResult, secret_files, settings_checks
from penstock.config import KafkaSettings, Settings, StoreSettings, load_settings
from penstock.processes import free_port
from penstock.store.milvus.store import MilvusStore
from tests.broker.test_least_rights import rights
from tests.secured_kafka import GROUP, PASSWORD, TOPIC, SecuredKafka, secured_kafka
from tests.store.builders import spec
from tests.store.servers import milvus_lite_server

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_USE_TLS": "1"}


def results(environment: Mapping[str, str] = TOKEN, **settings: Any) -> dict[str, CheckResult]:
    loaded = load_settings(**settings)
    return {check.subject: check.result for check in settings_checks(loaded, {"PENSTOCK_CONFIG": "", **environment})}


def failing(environment: Mapping[str, str] = TOKEN, **settings: Any) -> list[str]:
    return [name for name, result in results(environment, **settings).items() if result is CheckResult.FAILS]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(0o600)
    return file


@pytest.fixture
def closed(tmp_path: Path, certificate: Path) -> dict[str, Any]:
    """Returns the settings of a house to which others come, with everything closed."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return {
        "data_dir": folder,
        "auth": {"mode": "keys"},
        "query": {
            "host": "0.0.0.0",
            "hosts": ["search.example.com"],
            "tls_cert_file": certificate,
            "tls_key_file": certificate,
        },
        "metrics": {"host": "0.0.0.0", "tls_cert_file": certificate, "tls_key_file": certificate},
        "kafka": {
            "bootstrap_servers": "kafka.example.com:9093",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "u",
            "sasl_password_file": certificate,
            "tenants": "media.{tenant}.{modality}",
        },
        "store": {
            "uri": "https://milvus.example.com:19530",
            "token_file": certificate,
            "readonly_token_file": certificate,
        },
        "ray_address": "ray://ray.example.com:10001",
        "replay": {"key_file": certificate},
    }


def test_a_closed_house_passes_without_a_note(closed: dict[str, Any]) -> None:
    assert set(results(**closed).values()) == {CheckResult.OK}


@pytest.mark.parametrize(
    ("section", "change", "subject"),
    [
        ("auth", {"mode": "none"}, "auth.mode is none"),
        ("kafka", {"security_protocol": "PLAINTEXT"}, "Kafka: not encrypted"),
        ("kafka", {"ssl_check_hostname": False}, "Kafka: host names are not checked"),
        ("kafka", {"tenants": None}, "nothing says whose the topics are"),
        ("store", {"token_file": None, "readonly_token_file": None}, "without a user"),
        ("replay", {"key_file": None}, "without replay.key on several nodes"),
    ],
)
def test_what_is_unsafe_fails_by_its_name(
    closed: dict[str, Any], section: str, change: dict[str, Any], subject: str
) -> None:
    if change.get("security_protocol") == "PLAINTEXT":
        closed[section] = {"bootstrap_servers": "kafka.example.com:9092", "tenants": "header"}
    closed[section] = {**closed.get(section, {}), **change}
    assert failing(**closed) == [subject]


def test_believing_unsigned_replays_is_a_note_as_an_upgrade_needs_it(closed: dict[str, Any]) -> None:
    closed["replay"] |= {"allow_unsigned": True}
    assert failing(**closed) == []
    assert results(**closed)["replays need no signature"] is CheckResult.NOTE


def test_a_ray_of_others_needs_a_token(closed: dict[str, Any]) -> None:
    assert failing({}, **closed) == ["ray://ray.example.com:10001 without a token"]
    assert results({}, **closed)["not encrypted"] is CheckResult.NOTE


@pytest.mark.parametrize("name", ["data", "secret", "data/keys.json", "data/audit-log.jsonl"])
def test_files_that_others_can_open_fail(closed: dict[str, Any], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not path.exists():
        path.write_text("x")
    path.chmod(0o755 if path.is_dir() else 0o644)
    (failure,) = failing(**closed)
    assert failure.startswith(str(path))


def test_one_machine_without_credentials_has_notes_and_no_failure(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    checked = results({}, data_dir=tmp_path, kafka={"bootstrap_servers": "localhost:9092"})
    assert CheckResult.FAILS not in checked.values()
    assert checked["auth.mode is none, on loopback"] is CheckResult.NOTE
    assert checked["no audit log"] is CheckResult.NOTE


def test_a_pod_is_told_that_network_policies_cannot_be_seen(closed: dict[str, Any]) -> None:
    checked = results({**TOKEN, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, **closed)
    assert checked["NetworkPolicies"] is CheckResult.UNCHECKED


def test_only_files_of_secrets_are_taken_for_such(certificate: Path) -> None:
    settings = Settings(
        store={"uri": "https://milvus", "token_file": certificate, "ca_file": Path("/ca")},
        query={"tls_cert_file": Path("/cert"), "tls_key_file": Path("/key")},
    )
    assert list(secret_files(settings)) == [certificate]


def test_rights_follow_the_settings() -> None:
    settings = Settings(kafka={"changes_topic": "changes"}, ingest={"modalities": ["text"]})
    assert needed_rights(settings, "ingest") == {
        "media.text": Right.READ,
        "media.dlq": Right.WRITE,
        "media.control": Right.READ,
        "changes": Right.WRITE,
    }
    queried = needed_rights(settings, "query")
    assert (queried["changes"], queried["media.text"]) == (Right.READ, Right.WRITE)
    assert "media.image" not in queried


@pytest.mark.parametrize("section", [{"query": {"accept_events": False}}, {"auth": {"allow_anonymous": True}}])
def test_a_query_plane_that_takes_no_events_needs_no_right_to_write_media(section: dict[str, Any]) -> None:
    assert "media.text" not in needed_rights(Settings(**section), "query")


def test_the_command_prints_a_table_and_its_exit_code_says_whether_something_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", str(tmp_path / "none.toml"))
    tmp_path.chmod(0o755)
    assert main(["--data-dir", str(tmp_path), "preflight", "--offline", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)
    assert [check["subject"] for check in checks if check["result"] == "fails"] == [f"{tmp_path}: 0755"]
    tmp_path.chmod(0o700)
    assert main(["--data-dir", str(tmp_path), "preflight", "--offline"]) == 0
    assert "auth.mode is none, on loopback" in capsys.readouterr().out


# --- with real services ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker() -> Iterator[SecuredKafka]:
    """Yields a broker with the topics of the settings, on which the user of the planes has the rights of the page."""
    defaults = KafkaSettings()
    with secured_kafka() as broker:
        names = {getattr(defaults, name) for name in KafkaSettings.model_fields if name.endswith("_topic")}
        broker.create_topics(*sorted(names))
        for row in (row for user in ("ingest plane", "query plane") for row in rights()[user]):
            operations = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() for name in row["operations"].split(", ")]
            broker.grant(TOPIC if row["kind"] == "topic" else GROUP, row["name"], *operations)
        yield broker


@pytest.fixture(scope="module")
def lite() -> Iterator[str]:
    with milvus_lite_server() as server:
        yield server.uri


@pytest.fixture
def checked(
    broker: SecuredKafka, lite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, tuple[str, str]]]:
    """Runs the command on the real services, and returns (result, detail) by subject."""
    tmp_path.chmod(0o700)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    variables = {
        "CONFIG": tmp_path / "none.toml",
        "STORE__URI": lite,
        "KAFKA__BOOTSTRAP_SERVERS": broker.settings().bootstrap_servers,
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SASL_MECHANISM": "PLAIN",
        "KAFKA__SASL_USERNAME": "plain",
        "KAFKA__SASL_PASSWORD_FILE": tmp_path / "password",
        "KAFKA__SSL_CAFILE": broker.files.ca,
    }

    def run(plane: str = "both", **changed: object) -> dict[str, tuple[str, str]]:
        for name, value in (variables | changed).items():
            monkeypatch.setenv(f"PENSTOCK_{name}", str(value))
        code = main(["--data-dir", str(tmp_path), "preflight", "--plane", plane, "--json"])
        checks = json.loads(capsys.readouterr().out)
        assert code == any(check["result"] == "fails" for check in checks)
        return {check["subject"]: (check["result"], check["detail"]) for check in checks}

    return run


Run = Callable[..., dict[str, tuple[str, str]]]


@pytest.mark.services
@pytest.mark.exhaustive
def test_planes_with_the_rights_of_the_page_pass(checked: Run) -> None:
    checks = checked()
    assert [subject for subject, (result, _) in checks.items() if result == "fails"] == []
    rights_of = {subject: result for subject, (result, _) in checks.items() if subject.startswith("rights of ")}
    assert list(rights_of.values()) == ["ok", "ok"], checks


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("plane", "topic", "right"),
    [
        ("ingest", "media.text", "READ"),
        ("query", "penstock.matches", "WRITE"),
        ("query", "media.image", "WRITE"),
    ],
)
def test_a_right_that_is_missing_fails_with_the_topic_and_the_right(
    checked: Run, broker: SecuredKafka, plane: str, topic: str, right: str
) -> None:
    broker.revoke(TOPIC, topic, right)
    try:
        result, detail = checked(plane)[f"{plane}: {topic}"]
    finally:
        broker.grant(TOPIC, topic, right)
    assert result == "fails"
    assert right.capitalize() in detail


@pytest.mark.services
@pytest.mark.exhaustive
def test_a_right_on_the_group_that_is_missing_fails(checked: Run, broker: SecuredKafka) -> None:
    broker.revoke(GROUP, "penstock", "READ")
    try:
        result, detail = checked("ingest")["ingest: penstock"]
    finally:
        broker.grant(GROUP, "penstock", "READ")
    assert (result, "group" in detail) == ("fails", True)


@pytest.mark.services
@pytest.mark.exhaustive
def test_refused_credentials_and_a_store_that_is_away_fail_with_what_to_do(checked: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    checks = checked("query", STORE__URI=f"http://127.0.0.1:{free_port()}", STORE__TIMEOUT_S="2")
    result, detail = checks["rights of query"]
    assert (result, "kafka.sasl_password" in detail) == ("fails", True)
    assert checks["query reads the collections (store.token)"][0] == "fails"


@pytest.mark.services
@pytest.mark.exhaustive
def test_an_index_that_exists_is_read(checked: Run, lite: str) -> None:
    subject = "ingest reads the collections (store.token)"
    result, detail = checked("ingest")[subject]
    assert (result, "no index yet" in detail) == ("note", True)
    store = MilvusStore(StoreSettings(uri=lite))
    store.ensure(spec())
    store.close()
    assert checked("ingest")[subject] == ("ok", "")
