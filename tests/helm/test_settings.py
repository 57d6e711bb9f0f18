"""The settings file that the chart renders is one that the product reads, and a wrong setting does not get that far."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
from pydantic import SecretStr

from penstock.config import FetchRule, Settings, load_settings
from tests.helm.rendering import EVERYTHING, merge, nested, render
from tools.chart.schema import settings_schema


def _read(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    file = folder / "chart.toml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    return load_settings()


# What the product demands where there is a password of Kafka and a token of the store.
_SECURED = {
    "settings": {
        "kafka": {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "penstock"},
        "store": {"uri": "https://milvus:19530"},
    }
}


@pytest.mark.parametrize("values", [{}, merge(EVERYTHING, _SECURED)], ids=["required", "everything"])
def test_the_product_reads_the_file(values: dict[str, Any], no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _read(render(values).settings(), no_settings, monkeypatch)
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.assets.url == "s3://media/penstock"
    assert settings.data_dir == Path("/data")
    assert settings.metrics.host == "0.0.0.0"
    assert settings.canary.query_url == settings.query.url == "http://penstock-query-serve-svc.media:8000"
    assert settings.metrics.urls == ("http://penstock-driver.media:8601",)


def test_secrets_are_files_that_the_settings_name(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    further = {"generate.key": {"name": "g", "key": "k"}, "store.ca_file": {"name": "m", "key": "ca"}}
    rendered = render(merge(EVERYTHING, _SECURED), {"secrets": {"files": further}})
    settings = _read(rendered.settings(), no_settings, monkeypatch)
    assert settings.kafka.sasl_password_file == Path("/etc/penstock/secrets/kafka.sasl_password")
    assert settings.store.token_file == Path("/etc/penstock/secrets/store.token")
    assert settings.generate.key_file == Path("/etc/penstock/secrets/generate.key")
    assert settings.store.ca_file == Path("/etc/penstock/secrets/store.ca_file")


def test_every_kind_of_setting_arrives_as_it_was_given(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "tenant": 'a "quoted" <name> & more\n',
        "ingest": {"modalities": ["text", "video"], "max_in_flight_bytes": 10_000_000_000, "linger_ms": 0},
        "fetch": {"allow_public": False, "allow": [{"tenants": ["acme"], "scheme": "s3", "bucket": "a"}]},
        "query": {"weights": {"image": 0.25, "text": 2}, "relevance_floor": 0},
        "generate": {"model": "äöü"},
    }
    settings = _read(render({"settings": given}).settings(), no_settings, monkeypatch)
    assert settings.tenant == given["tenant"]
    assert [modality.value for modality in settings.ingest.modalities] == ["text", "video"]
    assert settings.ingest.max_in_flight_bytes == 10_000_000_000
    assert (settings.ingest.linger_ms, settings.query.relevance_floor) == (0, 0)
    assert not settings.fetch.allow_public
    assert settings.fetch.allow == (FetchRule(tenants=("acme",), scheme="s3", bucket="a"),)
    assert settings.query.weights["image"] == 0.25
    assert settings.generate.model == "äöü"


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("settings.ingest.lane", 4, "/settings/ingest"),
        ("settings.inget.lanes", 4, "/settings"),
        ("settings.ingest.lanes", "four", "/settings/ingest/lanes"),
        ("settings.ingest.lanes", 0, "/settings/ingest/lanes"),
        ("settings.ingest.lanes", 1.5, "/settings/ingest/lanes"),
        ("settings.ingest.modalities", ["smell"], "/settings/ingest/modalities/0"),
        ("settings.precision", "fp8", "/settings/precision"),
        ("settings.kafka.sasl_password", "hunter2", "/settings/kafka"),
        ("settings.store.token", "root:Milvus", "/settings/store"),
        ("settings.data_dir", "/elsewhere", "/settings"),
        ("settings.query.weights.smell", 1, "/settings/query/weights"),
        ("imagee.tag", "1", ""),
        ("image.tga", "1", "/image"),
        ("image.digest", "latest", "/image/digest"),
        ("ingest.head.resource", {}, "/ingest/head"),
        ("ingest.groups.cpu.maximum", 3, "/ingest/groups/cpu"),
        ("ingest.groups.cpu.gpu.count", "one", "/ingest/groups/cpu/gpu/count"),
        ("ingest.groups.cpu.tolerations", [{"kye": "a"}], "/ingest/groups/cpu/tolerations/0"),
        ("networkPolicy.kafka", [{"ipBlok": {}}], "/networkPolicy/kafka/0"),
        ("query.upgrade.type", "Rolling", "/query/upgrade/type"),
        ("query.replicas.min", 0, "/query/replicas/min"),
        ("volumes.data", "4 GiB", "/volumes/data"),
    ],
)
def test_a_wrong_value_fails_with_its_path(path: str, value: Any, place: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(f"at '{place}'")):
        render(nested(path, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (nested("settings.kafka.bootstrap_servers", ""), "settings.kafka.bootstrap_servers is needed"),
        (nested("settings.store.uri", ""), "settings.store.uri is needed"),
        (nested("settings.assets.url", ""), "settings.assets.url is needed"),
        (nested("settings.assets.url", "file:///data/media"), "names the disk of one pod"),
        (nested("settings.metrics.port", 0), "port a fixed one"),
        (nested("settings.auth.mode", "none"), "settings.auth is undecided"),
        (nested("settings.kafka.tenants", ""), "settings.kafka.tenants is needed with settings.auth.mode keys"),
        ({"secrets": {"files": {"replay.key": {"name": "", "key": ""}}}}, "secrets.files needs replay.key"),
        ({"secrets": {"files": {"media_links.key": {"name": "", "key": ""}}}}, "secrets.files needs media_links.key"),
        (nested("settings.metrics.enabled", False), "enabled has to be true"),
        (nested("models.source", "claim"), "models.claim is needed"),
        (nested("query.replicas", {"min": 3, "max": 2}), "query.replicas: min is 3, more than max, which is 2"),
        (nested("query.upgrade.type", "NewClusterWithIncrementalUpgrade"), "gatewayClassName is needed"),
        (nested("ingest.groups.cpu", {"min": 5}), "ingest.groups.cpu: min is 5, more than max, which is 4"),
        (nested("ingest.groups.cpu.role", "gpu"), "ingest.groups.cpu: role gpu needs gpu.count"),
        (nested("ingest.autoscaler.idleTimeoutSeconds", 600), "more than settings.ingest.worker_start_timeout_s"),
        (nested("networkPolicy.prometheus", []), "the policy prometheus has no peers"),
        (
            merge(nested("keda.enabled", True), nested("settings.kafka", {"security_protocol": "SASL_SSL"})),
            "settings.kafka.sasl_mechanism is needed by keda",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(message)):
        render(values)


def test_the_schema_has_every_setting_but_secrets_and_what_the_chart_sets() -> None:
    schema = settings_schema()["properties"]
    in_schema = {
        f"{section}.{name}" if "properties" in below else section
        for section, below in schema.items()
        for name in below.get("properties", {section: None})
    }
    assert in_schema == set(_settings(Settings)) - {"data_dir", "ray_address"}
    assert "kafka.sasl_username" in in_schema


def _settings(model: Any) -> list[str]:
    names: list[str] = []
    for name, info in model.model_fields.items():
        fields = getattr(info.annotation, "model_fields", None)
        if fields is None:
            names += [name] if SecretStr not in _choices(info.annotation) else []
            continue
        names += [f"{name}.{below}" for below, field in fields.items() if SecretStr not in _choices(field.annotation)]
    return names


def _choices(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", (annotation,))
