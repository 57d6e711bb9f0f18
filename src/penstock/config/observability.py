"""Settings of metrics, canaries, logs and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.config.secrets import refuse_userinfo
from penstock.config.section import Section


class MetricsSettings(Section):
    """Metrics for Prometheus: each node has one endpoint for all processes of both planes."""

    enabled: bool = Field(True, description="whether processes count, and each node serves its metrics")
    host: str = Field("127.0.0.1", description="address that each node's endpoint listens on; 0.0.0.0 in a cluster")
    port: int = Field(8601, ge=0, le=65535, description="port of the endpoint, http://host:port/metrics; 0: a free one")
    tls_cert_file: Path | None = Field(
        None,
        description="file of the endpoint's certificate and those above it (PEM), which then speaks https; read again "
        "when it changes",
    )
    tls_key_file: Path | None = Field(None, description="file of the key of tls_cert_file (PEM)")
    tls_client_ca_file: Path | None = Field(
        None, description="file of the CA certificates (PEM) of the clients, which then have to show a certificate"
    )
    token: SecretStr | None = Field(
        None,
        min_length=32,
        description="bearer token without which the endpoint serves no metrics and no status, at least 32 characters; "
        "unset: it serves all that reach it",
    )
    token_file: Path | None = Field(None, description="file that holds metrics.token; read again at each use")
    ca_file: Path | None = Field(
        None,
        description="file of the CA certificates (PEM) by which `penstock status` checks the endpoint's certificate; "
        "unset: those of the system",
    )
    urls: tuple[str, ...] = Field(
        (),
        description="endpoints that `penstock status` reads, such as http://driver:8601, with the driver's; none: that "
        "of this data folder",
    )

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: set both, or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file would not be used: set tls_cert_file and tls_key_file")
        return self

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url} is no address such as http://driver:8601")
        return value


class CanarySettings(Section):
    """Canaries: marked events that the ingest plane produces and then searches for, to measure end-to-end freshness."""

    interval_s: float = Field(
        10.0, ge=0, description="interval between canaries, seconds; 0: none are sent; unset: 30 for `penstock up`"
    )
    timeout_s: float = Field(30.0, gt=0, description="time after which a canary that is not found is late, seconds")
    query_url: str | None = Field(
        None, description="query plane to search; unset: that of `penstock up`, and without one none are sent"
    )


class LogSettings(Section):
    """The log of every process of both planes, actors included."""

    format: Literal["text", "json"] = Field(
        "text", description="format of log lines: text, on stderr; json, on stdout, one object a line"
    )
    level: Literal["error", "warning", "info", "debug"] = Field(
        "warning", description="least level that is logged: error, warning, info or debug; -v lowers it for a command"
    )


class TracingSettings(Section):
    """Traces of events and searches, sent to an OpenTelemetry collector; needs the packages of `penstock[tracing]`."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+(/\S*)?$",
        description="OTLP/HTTP receiver of the collector, such as http://collector:4318; unset: tracing is off",
    )
    sample_rate: float = Field(
        0.01, ge=0, le=1, description="share of traces that are kept; one that began elsewhere keeps its own decision"
    )
    headers: SecretStr | None = Field(
        None, description="headers of the requests to the collector, such as of a key: name=value,name=value"
    )
    headers_file: Path | None = Field(None, description="file of these headers, read when a process starts")
    ca_file: Path | None = Field(
        None, description="file of the CA certificates that the collector's certificate is checked against"
    )
    service_name: str = Field("penstock", min_length=1, description="service.name of all spans")

    @field_validator("endpoint")
    @classmethod
    def _has_no_password(cls, value: str | None) -> str | None:
        return refuse_userinfo(value, "set tracing.headers or tracing.headers_file")
