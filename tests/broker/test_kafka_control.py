"""Tests what the control group makes of a broker's answers and of settings, without a broker."""

from __future__ import annotations

import socket
import time

import pytest
from kafka import KafkaAdminClient, errors

from penstock.broker.client import connection_arguments, open_client, translate
from penstock.broker.kafka_control import KafkaControlGroup, admin_timeouts, refuse_error
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, UnavailableError

SETTINGS = KafkaSettings(group="g.control")


def test_a_group_that_does_not_exist_yet_is_no_error() -> None:
    refuse_error(SETTINGS, None)
    refuse_error(SETTINGS, str(errors.GroupIdNotFoundError(None)))


@pytest.mark.parametrize(
    "error",
    [errors.CoordinatorLoadInProgressError, errors.CoordinatorNotAvailableError, errors.NotCoordinatorError],
)
def test_a_group_that_the_broker_could_not_describe_is_not_empty(error: type[errors.BrokerResponseError]) -> None:
    with pytest.raises(UnavailableError, match=rf"g\.control.*{error.__name__}"):
        refuse_error(SETTINGS, str(error(None)))


def test_a_group_that_may_not_be_read_is_a_matter_of_settings() -> None:
    with pytest.raises(ConfigError, match=r"the right Read on group g\.control"):
        refuse_error(SETTINGS, str(errors.GroupAuthorizationFailedError(None)))


def test_a_lease_above_the_poll_interval_is_refused_by_its_own_name() -> None:
    with pytest.raises(ConfigError, match=r"ingest\.lease_timeout_s \(301\.0 s\) must be below") as refused:
        KafkaControlGroup(KafkaSettings(), 301.0)
    assert "drain_timeout_s" not in str(refused.value)


def test_a_session_that_the_broker_refuses_names_the_settings_that_make_it() -> None:
    settings = KafkaSettings(session_timeout_ms=2_000)
    error = translate(errors.InvalidSessionTimeoutError(), "join the consumer group penstock.control", settings)
    assert isinstance(error, ConfigError)
    assert "2000 ms" in str(error)
    assert "ingest.lease_timeout_s" in str(error)


def test_a_broker_that_has_answered_before_is_given_a_fraction_of_the_session() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        arguments = connection_arguments(settings) | admin_timeouts(10.0, has_answered=True)
        began_s = time.monotonic()
        with pytest.raises(errors.KafkaError):
            open_client(KafkaAdminClient, arguments)
        assert time.monotonic() - began_s < 5


def test_the_first_answer_may_take_as_long_as_that_to_any_command() -> None:
    assert admin_timeouts(10.0, has_answered=False) == {"request_timeout_ms": 2_500}
    assert admin_timeouts(600.0, has_answered=False) == {"request_timeout_ms": 5_000}
