"""Checks how the addresses of a running `penstock up` are found."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.config import (
    Endpoints,
    KafkaSettings,
    demo_folder,
    endpoints_file,
    load_settings,
    read_endpoints,
    start_hint,
    with_endpoints,
    write_endpoints,
)
from penstock.records import Modality


def _endpoints(pid: int) -> Endpoints:
    return Endpoints(
        pid=pid, bootstrap_servers="b:1", store_uri="http://s:2", ray_address="r:3", query_url="http://q:4"
    )


def test_unset_addresses_come_from_the_services_that_run(no_settings: Path) -> None:
    write_endpoints(no_settings, _endpoints(os.getpid()))
    settings = with_endpoints(load_settings(data_dir=no_settings, store={"uri": "http://own:5"}))
    assert settings.kafka.bootstrap_servers == "b:1"
    assert settings.store.uri == "http://own:5"
    assert settings.ray_address == "r:3"


def test_modalities_are_those_of_the_up_that_runs_unless_they_are_set(no_settings: Path) -> None:
    write_endpoints(no_settings, _endpoints(os.getpid()).model_copy(update={"modalities": tuple(Modality)}))
    assert with_endpoints(load_settings(data_dir=no_settings)).ingest.modalities == tuple(Modality)
    own = load_settings(data_dir=no_settings, ingest={"modalities": ["text"]})
    assert with_endpoints(own).ingest.modalities == (Modality.TEXT,)


def test_the_password_of_an_embedded_broker_comes_with_its_address(no_settings: Path) -> None:
    (no_settings / "password").write_text("hunter2")
    running = _endpoints(os.getpid()).model_copy(update={"kafka_password_file": no_settings / "password"})
    write_endpoints(no_settings, running)
    kafka = with_endpoints(load_settings(data_dir=no_settings)).kafka
    assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert (kafka.sasl_username, kafka.secret("sasl_password")) == ("penstock", "hunter2")
    KafkaSettings.model_validate(kafka.model_dump())  # as a child process checks them
    own = load_settings(data_dir=no_settings, kafka={"bootstrap_servers": "own:9092"})
    assert with_endpoints(own).kafka == own.kafka


def test_endpoints_of_a_process_that_ended_are_ignored(no_settings: Path) -> None:
    write_endpoints(no_settings, _endpoints(2**22 + 1))  # above the largest process id of Linux
    assert read_endpoints(no_settings) is None
    settings = load_settings(data_dir=no_settings)
    assert with_endpoints(settings) == settings


def test_half_a_file_is_ignored(no_settings: Path) -> None:
    endpoints_file(no_settings).write_text('{"pid": 1')
    assert read_endpoints(no_settings) is None


def test_the_hint_names_a_demo_that_runs(no_settings: Path) -> None:
    settings = load_settings(data_dir=no_settings)
    assert "demo" not in start_hint(settings)
    demo_folder(settings).mkdir()
    write_endpoints(demo_folder(settings), _endpoints(os.getpid()))
    assert str(demo_folder(settings)) in start_hint(settings)
