"""Runs every Kafka client of Penstock against a broker with TLS, SASL and an authorizer."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from pydantic import SecretStr

from penstock.broker.base import Message, Partition
from penstock.broker.client import network_of
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.kafka_control import KafkaControlGroup
from penstock.broker.producer import MessageProducer
from penstock.broker.reader import KafkaReader
from penstock.broker.tail import KafkaTail
from penstock.broker.topic_findings import FindingKind
from penstock.broker.topics import ensure_changes_topic, ensure_topics, ensure_watch_topics, group_lag
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, PenstockError, UnavailableError
from penstock.observability import metrics
from penstock.records import Modality
from tests.broker.harness import DEADLINE_S, PollLog, until
from tests.counted import counted
from tests.secured_kafka import CLUSTER, GROUP, HOST, KEY_PASSWORD, PASSWORD, TOPIC, SecuredKafka, secured_kafka
from tests.token_issuer import token_endpoint

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def broker() -> Iterator[SecuredKafka]:
    with secured_kafka() as broker:
        yield broker


@pytest.fixture
def settings(broker: SecuredKafka) -> Iterator[KafkaSettings]:
    """Topics and a group of this test alone, on which the user `plain` has no right yet."""
    name = uuid.uuid4().hex[:8]
    topics = {f"{kind}_topic": f"{kind}-{name}" for kind in (*Modality, "dead_letter")}
    topics |= {f"{kind}_topic": f"{kind}-{name}" for kind in ("control", "changes", "watches", "matches")}
    yield broker.settings(group=f"group-{name}", partitions=1, **topics)
    broker.revoke_all()


def opens(settings: KafkaSettings) -> None:
    """Opens a client, as every command does first."""
    group_lag(settings, [])


def others(broker: SecuredKafka) -> dict[str, tuple[dict[str, Any], str]]:
    files = broker.files
    by_certificate = {
        "bootstrap_servers": f"{HOST}:{broker.ssl_port}",
        "security_protocol": "SSL",
        "sasl_mechanism": None,
        "sasl_username": None,
        "sasl_password": None,
    }
    return {
        "wrong password": ({"sasl_password": "wrong"}, "refuses the user plain by PLAIN"),
        "wrong password of SCRAM": (
            {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "scram", "sasl_password": "wrong"},
            "refuses the user scram by SCRAM-SHA-512",
        ),
        "unknown CA": ({"ssl_cafile": files.other_ca}, "certificate is of an unknown CA"),
        "wrong host name": ({"bootstrap_servers": f"localhost:{broker.sasl_port}"}, "certificate is for another host"),
        "no client certificate": (by_certificate, "demands a client certificate"),
        "unsupported mechanism": (
            {"sasl_mechanism": "SCRAM-SHA-256"},
            "does not offer the SASL mechanism SCRAM-SHA-256",
        ),
    }


CASES = (
    "wrong password",
    "wrong password of SCRAM",
    "unknown CA",
    "wrong host name",
    "no client certificate",
    "unsupported mechanism",
)


@pytest.mark.parametrize("case", CASES)
def test_each_refusal_at_start_is_a_line_of_its_own_within_five_seconds(broker: SecuredKafka, case: str) -> None:
    changed, words = others(broker)[case]
    began_s, before = time.monotonic(), counted(metrics.AUTH_FAILURES, service="kafka")
    with pytest.raises(ConfigError, match=words) as refused:
        opens(broker.settings(**changed))
    assert time.monotonic() - began_s < 5
    message = str(refused.value)
    assert "\n" not in message
    assert "does not answer" not in message
    assert "Kafka at" in message
    assert counted(metrics.AUTH_FAILURES, service="kafka") > before


def test_scram_a_client_certificate_and_an_unchecked_host_name_are_let_in(broker: SecuredKafka) -> None:
    opens(broker.settings(sasl_mechanism="SCRAM-SHA-512", sasl_username="scram"))
    by_certificate = others(broker)["no client certificate"][0]
    certificate = {"ssl_certfile": broker.files.client_cert, "ssl_keyfile": broker.files.client_key}
    opens(broker.settings(**by_certificate, **certificate, ssl_key_password=SecretStr(KEY_PASSWORD)))
    opens(broker.settings(bootstrap_servers=f"localhost:{broker.sasl_port}", ssl_check_hostname=False))


def test_files_and_credentials_that_are_missing_are_named(broker: SecuredKafka) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cafile cannot be used .*No such file"):
        opens(broker.settings(ssl_cafile="/nonexistent/ca.pem"))
    certificate = {"ssl_certfile": broker.files.client_cert, "ssl_keyfile": broker.files.client_key}
    with pytest.raises(ConfigError, match=r"kafka\.ssl_key_password cannot be used"):
        opens(broker.settings(**certificate))
    with pytest.raises(ConfigError, match=r"SASL_SSL needs .*kafka\.sasl_password"):
        opens(broker.settings(sasl_password=None))


# --- tokens ----------------------------------------------------------------------------------------------------------


def by_token(broker: SecuredKafka, **oauth: object) -> KafkaSettings:
    """Returns settings of a client that has tokens, and neither user nor password."""
    return broker.settings(sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None, oauth=oauth)


def test_a_token_of_a_file_is_let_in_until_it_is_another_ones(broker: SecuredKafka, tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = by_token(broker, token_file=file)
    with pytest.raises(ConfigError, match=r"oauth\.token_file cannot be read"):
        opens(settings)
    file.write_text(broker.tokens.token("lane"))
    opens(settings)
    file.write_text(broker.tokens.token("lane", aud="another service"))
    with pytest.raises(ConfigError, match="refuses the token"):
        opens(settings)


def test_a_token_by_client_credentials_is_let_in(broker: SecuredKafka, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one")
    with token_endpoint() as endpoint:
        endpoint.document = {"access_token": broker.tokens.token("lane"), "expires_in": 300}
        client = {"token_url": endpoint.url, "client_id": "penstock", "client_secret_file": tmp_path / "secret"}
        opens(by_token(broker, **client))
        (tmp_path / "wrong").write_text("wrong")
        with pytest.raises(ConfigError, match=r"refuses the client penstock \(HTTP 401\)"):
            opens(by_token(broker, **client | {"client_secret_file": tmp_path / "wrong"}))


# --- a lane ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lane_of(broker: SecuredKafka) -> Iterator[Callable[[KafkaSettings], PollLog]]:
    """Makes consumers of the topics of text and images, and closes them in the end."""
    opened: list[PollLog] = []

    def make(settings: KafkaSettings) -> PollLog:
        topics = [settings.text_topic, settings.image_topic]
        opened.append(PollLog(LaneConsumer(settings, topics, drain_timeout_s=5)))
        return opened[-1]

    yield make
    for lane in opened:
        lane.consumer.close(5)


@pytest.fixture
def write(broker: SecuredKafka) -> Iterator[Callable[..., None]]:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    def send(topic: str, *values: bytes) -> None:
        for value in values:
            producer.send(topic, value).get(DEADLINE_S)

    yield send
    producer.close(5)


def two_topics(broker: SecuredKafka, settings: KafkaSettings, *rights: str) -> None:
    broker.create_topics(settings.text_topic, settings.image_topic)
    broker.grant(GROUP, settings.group, "READ")
    broker.grant(TOPIC, settings.text_topic, "READ")
    if rights:
        broker.grant(TOPIC, settings.image_topic, *rights)


@pytest.mark.parametrize("left", ["DESCRIBE", ""])
def test_a_topic_whose_right_is_taken_away_stops_alone_and_continues_where_it_was(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, write: Any, left: str
) -> None:
    two_topics(broker, settings, *filter(None, ("READ", left)))
    write(settings.text_topic, b"t0")
    write(settings.image_topic, b"i0")
    lane = lane_of(settings)
    until(lambda: sorted(lane.values()) == [b"i0", b"t0"], lane)

    broker.revoke(TOPIC, settings.image_topic, "READ")
    write(settings.image_topic, b"i1")
    until(lambda: bool(lane.unreadable or lane.denied), lane)
    words = " ".join([*map(str, lane.unreadable), *lane.denied.values()])
    assert f"on topic {settings.image_topic}" in words
    assert "the right Read" in words or "the right Describe" in words
    write(settings.text_topic, b"t1")
    until(lambda: b"t1" in lane.values(), lane)
    assert lane.available

    broker.grant(TOPIC, settings.image_topic, "READ")
    image = Partition(settings.image_topic, 0)
    until(lambda: not lane.denied, lane)
    lane.consumer.seek_to(image, 1)
    until(lambda: b"i1" in lane.values(), lane)
    write(settings.text_topic, b"t2")
    until(lambda: b"t2" in lane.values(), lane)
    assert sorted(lane.values()) == [b"i0", b"i1", b"t0", b"t1", b"t2"]
    assert lane.lost == []


def test_a_topic_whose_right_is_missing_from_the_start_is_named_and_read_once_it_is_granted(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, write: Any
) -> None:
    two_topics(broker, settings)
    write(settings.text_topic, b"t0")
    write(settings.image_topic, b"i0")
    lane = lane_of(settings)
    until(lambda: lane.values() == [b"t0"], lane)
    assert list(lane.denied) == [settings.image_topic]
    assert "the right Describe" in lane.denied[settings.image_topic]
    broker.grant(TOPIC, settings.image_topic, "READ")
    until(lambda: b"i0" in lane.values(), lane)
    assert lane.denied == {}
    assert lane.lost == []


def test_the_offsets_of_other_topics_are_committed(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, write: Any
) -> None:
    two_topics(broker, settings, "READ")
    write(settings.text_topic, b"t0")
    write(settings.image_topic, b"i0")
    lane = lane_of(settings)
    until(lambda: len(lane.values()) == 2, lane)
    broker.revoke(TOPIC, settings.image_topic, "READ")
    text, image = Partition(settings.text_topic, 0), Partition(settings.image_topic, 0)
    with pytest.raises(UnavailableError, match=f"Read on topic {settings.image_topic}") as denied:
        eventually_denied(lambda: lane.consumer.commit({text: 1, image: 1}, 5))
    assert denied.value.acknowledged == {text: 1}  # type: ignore[attr-defined]


def eventually_denied(act: Callable[[], None]) -> None:
    """Repeats what succeeds until the change of rights has reached the broker's authorizer."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        act()


def test_a_group_that_may_not_be_joined_is_named_until_it_may(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, write: Any
) -> None:
    two_topics(broker, settings, "READ")
    broker.revoke(GROUP, settings.group, "READ")
    write(settings.text_topic, b"t0")
    lane = lane_of(settings)
    until(lambda: bool(lane.refusal), lane)
    assert f"the right Read on group {settings.group}" in lane.refusal
    assert not lane.available
    broker.grant(GROUP, settings.group, "READ")
    until(lambda: lane.values() == [b"t0"], lane)
    assert lane.refusal == ""


def test_a_lane_that_is_refused_waits_and_says_so(broker: SecuredKafka, settings: KafkaSettings, lane_of: Any) -> None:
    lane = lane_of(settings.model_copy(update={"sasl_password": SecretStr("wrong")}))
    until(lambda: bool(lane.refusal), lane)
    assert "refuses the user plain by PLAIN" in lane.refusal
    lane.poll()
    assert not lane.available


@pytest.mark.exhaustive
def test_a_password_that_is_changed_while_a_lane_runs_is_named_and_waited_for(lane_of: Any) -> None:
    """A broker checks the password again only when a client connects again, such as after a restart."""
    with secured_kafka() as broker:
        settings = broker.settings(sasl_mechanism="SCRAM-SHA-512", sasl_username="scram", group="g")
        broker.create_topics(settings.text_topic, settings.image_topic)
        broker.grant(GROUP, settings.group, "READ", user="scram")
        for topic in (settings.text_topic, settings.image_topic):
            broker.grant(TOPIC, topic, "READ", user="scram")
        lane = lane_of(settings)
        until(lambda: len(lane.owned) == 2, lane)
        broker.add_scram_user("another-password")
        broker.kill()
        broker.start()
        until(lambda: "refuses the user scram by SCRAM-SHA-512" in lane.refusal, lane)
        assert not lane.available
        broker.add_scram_user()
        until(lambda: lane.available and len(lane.owned) == 2, lane)
        assert lane.refusal == ""


def disconnect(lane: PollLog) -> None:
    """Ends the connections of a lane, as the restart of a broker does."""
    assert isinstance(lane.consumer, LaneConsumer)
    end_connections(lane.consumer._member.client)


def end_connections(client: object) -> None:
    connections = network_of(client)._connections
    ends = [connection.close for connection in list(connections._conns.values())]
    assert ends
    for end in ends:
        connections._net.call_soon_threadsafe(end)


def test_a_password_of_a_file_is_changed_while_a_lane_runs(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, write: Any, tmp_path: Path
) -> None:
    broker.add_scram_user()
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    user = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "scram", "sasl_password": None}
    settings = settings.model_copy(update=user | {"sasl_password_file": file})
    topics = (settings.text_topic, settings.image_topic)
    broker.create_topics(*topics)
    broker.grant(GROUP, settings.group, "READ", user="scram")
    for topic in topics:
        broker.grant(TOPIC, topic, "READ", user="scram")
    write(settings.text_topic, b"t0")
    lane = lane_of(settings)
    until(lambda: lane.values() == [b"t0"], lane)
    broker.add_scram_user("another-password")
    file.write_text("another-password")
    disconnect(lane)
    write(settings.text_topic, b"t1")
    until(lambda: lane.values() == [b"t0", b"t1"], lane)
    assert lane.refusal == ""
    broker.add_scram_user()


@pytest.mark.exhaustive
def test_passwords_that_change_under_load_lose_nothing(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, tmp_path: Path
) -> None:
    """A producer writes and a lane reads, while the password of both is changed and their connections end, thrice."""
    broker.add_scram_user()
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    user = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "scram", "sasl_password": None}
    settings = settings.model_copy(update=user | {"sasl_password_file": file})
    broker.create_topics(settings.text_topic, settings.image_topic)
    broker.grant(GROUP, settings.group, "READ", user="scram")
    for topic in (settings.text_topic, settings.image_topic):
        broker.grant(TOPIC, topic, "READ", "WRITE", user="scram")
    lane, sent, stop = lane_of(settings), [], threading.Event()
    producer = MessageProducer(settings)
    try:

        def produce() -> None:
            while not stop.is_set():
                value = b"%d" % len(sent)
                producer.send(Message(settings.text_topic, b"k", value)).result(DEADLINE_S)
                sent.append(value)

        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(produce)
            try:
                for number in range(3):
                    grown = len(lane.records) + 20
                    until(lambda grown=grown: len(lane.records) > grown, lane)
                    broker.add_scram_user(f"password-{number}")
                    file.write_text(f"password-{number}")
                    disconnect(lane)
                    end_connections(producer._client)
                until(lambda: len(lane.records) > grown + 20, lane)
            finally:
                stop.set()
            load.result(DEADLINE_S)
    finally:
        producer.close(5)
    until(lambda: len(lane.records) >= len(sent), lane)
    assert lane.values() == sent
    broker.add_scram_user()


def test_a_static_member_that_is_back_has_its_partitions_without_a_rebalance(
    broker: SecuredKafka, settings: KafkaSettings, lane_of: Any, write: Any
) -> None:
    two_topics(broker, settings, "READ")
    settings = settings.model_copy(update={"group_instance_id": "lane-0", "client_rack": "a", "client_id": "ingest"})
    lane = lane_of(settings)
    until(lambda: len(lane.owned) == 2, lane)
    generations = {assignment.generation for assignment in lane.consumer.assignments().values()}
    lane.consumer.close(2.0)
    back = lane_of(settings)
    until(lambda: len(back.owned) == 2, back)
    assert {assignment.generation for assignment in back.consumer.assignments().values()} == generations


# --- the other clients -----------------------------------------------------------------------------------------------


def test_missing_rights_on_existing_topics_are_findings(broker: SecuredKafka, settings: KafkaSettings) -> None:
    broker.create_topics(settings.text_topic, settings.image_topic, settings.dead_letter_topic)
    broker.grant(TOPIC, settings.text_topic, "READ")
    broker.grant(TOPIC, settings.dead_letter_topic, "READ")
    report = ensure_topics(settings, [Modality.TEXT, Modality.IMAGE])
    assert {finding.kind for finding in report.findings} == {FindingKind.RIGHT}
    lines = [str(finding) for finding in report.findings]
    for words in (
        f"the right Read on topic {settings.image_topic}",
        f"the right Write on topic {settings.dead_letter_topic}",
        f"the right Read on group {settings.group}",
        f"the settings of topic {settings.text_topic} are not checked: ",
        f"the right DescribeConfigs on topic {settings.dead_letter_topic}",
    ):
        assert any(words in line for line in lines), words
    assert set(report.partitions) == {settings.text_topic, settings.dead_letter_topic}


def test_a_topic_that_may_not_be_created_is_named(broker: SecuredKafka, settings: KafkaSettings) -> None:
    broker.grant(TOPIC, settings.text_topic, "READ")
    broker.grant(TOPIC, settings.dead_letter_topic, "WRITE")
    with pytest.raises(ConfigError, match=f"{settings.text_topic} is missing .*the right Create on topic"):
        ensure_topics(settings, [Modality.TEXT])
    broker.grant(TOPIC, settings.text_topic, "CREATE")
    broker.grant(CLUSTER, "kafka-cluster", "CREATE")
    assert set(ensure_topics(settings, [Modality.TEXT]).created) == {settings.text_topic, settings.dead_letter_topic}
    broker.revoke(CLUSTER, "kafka-cluster", "CREATE")


def test_an_unknown_lag_is_an_error_and_never_zero(broker: SecuredKafka, settings: KafkaSettings) -> None:
    broker.create_topics(settings.text_topic, settings.image_topic)
    broker.grant(TOPIC, settings.text_topic, "DESCRIBE")
    topics = [settings.text_topic, settings.image_topic]
    with pytest.raises(ConfigError, match=f"the right Describe on group {settings.group}"):
        group_lag(settings, [settings.text_topic])
    broker.grant(GROUP, settings.group, "DESCRIBE")
    with pytest.raises(ConfigError, match=f"lag of {settings.image_topic} is not known: .*the right Describe on topic"):
        group_lag(settings, topics)
    denied: dict[str, str] = {}
    lags = group_lag(settings, topics, denied.__setitem__)
    assert [str(lag.partition) for lag in lags] == [f"{settings.text_topic}[0]"]
    assert list(denied) == [settings.image_topic]


def test_readers_and_followers_name_the_right(broker: SecuredKafka, settings: KafkaSettings, write: Any) -> None:
    broker.create_topics(settings.dead_letter_topic)
    write(settings.dead_letter_topic, b"?")
    right = f"the right Read on topic {settings.dead_letter_topic}"
    tail = KafkaTail(settings, settings.dead_letter_topic, from_start=True)
    try:
        for left in ((), ("DESCRIBE",)):
            if left:
                broker.grant(TOPIC, settings.dead_letter_topic, *left)
            with pytest.raises(ConfigError, match=right):
                list(scan_dead_letters(settings))
            with pytest.raises(ConfigError, match=right):
                poll_often(tail)
        broker.grant(TOPIC, settings.dead_letter_topic, "READ")
        assert [record.value for record in read_until_one(tail)] == [b"?"]
    finally:
        tail.close()


def poll_often(tail: KafkaTail) -> None:
    for _ in range(50):
        tail.poll(0.1)


def read_until_one(tail: KafkaTail) -> list[Any]:
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        try:
            if records := tail.poll(0.2).records:
                return list(records)
        except PenstockError:
            continue
    raise AssertionError("nothing was read")


def test_the_cleanup_policy_that_may_not_be_read_is_a_warning(
    broker: SecuredKafka, settings: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topics(settings.text_topic)
    broker.grant(TOPIC, settings.text_topic, "READ")
    with KafkaReader(settings) as reader:
        assert reader.compacted([settings.text_topic]) == frozenset()
    assert f"the right DescribeConfigs on topic {settings.text_topic}" in caplog.text


@pytest.mark.parametrize("left", [(), ("DESCRIBE",)])
def test_a_topic_that_may_not_be_written_is_named(
    broker: SecuredKafka, settings: KafkaSettings, left: tuple[str, ...]
) -> None:
    broker.create_topics(settings.dead_letter_topic)
    if left:
        broker.grant(TOPIC, settings.dead_letter_topic, *left)
    producer = MessageProducer(settings)
    try:
        sent = producer.send(Message(settings.dead_letter_topic, None, b"x"))
        with pytest.raises(ConfigError, match=f"the right Write on topic {settings.dead_letter_topic}"):
            sent.result(DEADLINE_S)
    finally:
        producer.close(1)


def test_the_control_group_names_the_right(broker: SecuredKafka, settings: KafkaSettings) -> None:
    broker.create_topics(settings.control_topic)
    with pytest.raises(ConfigError, match=f"the right Read on topic {settings.control_topic}"):
        KafkaControlGroup(settings, 3.0)
    broker.grant(TOPIC, settings.control_topic, "READ")
    control = KafkaControlGroup(settings, 3.0)
    try:
        with pytest.raises(ConfigError, match=rf"the right Read on group {settings.group}\.control"):
            control.state()
        broker.grant(GROUP, f"{settings.group}.control", "READ")
        assert control.state().members == 0
    finally:
        control.close()


def test_the_topics_of_changes_and_watches_are_named(broker: SecuredKafka, settings: KafkaSettings) -> None:
    broker.create_topics(settings.changes_topic, settings.watches_topic, settings.matches_topic)
    with pytest.raises(ConfigError, match=f"the right Write on topic {settings.changes_topic}"):
        ensure_changes_topic(settings)
    with pytest.raises(ConfigError, match=f"the right Read on topic {settings.changes_topic}"):
        ensure_watch_topics(settings)
    broker.grant(TOPIC, settings.changes_topic, "READ")
    broker.grant(TOPIC, settings.watches_topic, "READ")
    with pytest.raises(ConfigError, match=f"the right Write on topic {settings.watches_topic}"):
        ensure_watch_topics(settings)
