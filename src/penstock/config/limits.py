"""Settings of how much each caller and each tenant may request of the query plane."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from penstock.config.section import Section


def _rate(of: str) -> float | None:
    field: float | None = Field(None, gt=0, description=f"{of} per second; unset: no limit")
    return field


def _concurrent(of: str) -> int | None:
    field: int | None = Field(None, ge=1, description=f"{of} in progress in one replica; unset: no limit")
    return field


class RequestLimits(Section):
    """The requests of one caller, or those of all callers of one tenant."""

    requests_per_s: float | None = _rate("requests")
    images_per_s: float | None = _rate("searches and questions with an image")
    voice_per_s: float | None = _rate("spoken searches and questions")
    answers_per_s: float | None = _rate("answers")
    events_per_s: float | None = _rate("requests that send events")
    max_requests: int | None = _concurrent("requests")
    max_images: int | None = _concurrent("searches and questions with an image")
    max_voice: int | None = _concurrent("spoken searches and questions")
    max_answers: int | None = _concurrent("answers")
    max_events: int | None = _concurrent("requests that send events")


class LimitsSettings(Section):
    """The limits of the query plane; what is beyond them is 429 with the time to wait."""

    caller: RequestLimits = RequestLimits()
    tenant: RequestLimits = RequestLimits()
    burst_s: float = Field(
        2.0,
        gt=0,
        le=3600,
        description="what a rate gives in this time may come in one burst, seconds; one request in any case",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis in which replicas share what was used, redis://user:password@host:6379; unset: each replica "
        "has the whole rate",
    )
    redis_url_file: Path | None = Field(None, description="file that holds limits.redis_url; read at the start")
