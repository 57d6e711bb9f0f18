"""The tenants to whom topics belong: by a pattern, by a map, or by a header of each event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from penstock.config.section import Section
from penstock.records import Modality

HEADER: Literal["header"] = "header"
"""The value of `kafka.tenants` with which every producer names the tenant of its events."""

_TENANT, _MODALITY = "{tenant}", "{modality}"
_TENANT_NAME = r"[A-Za-z0-9._-]{1,64}"  # as `broker.wire` takes it


class TopicOwner(Section):
    """The tenant of a topic. In settings, the name alone stands for it too."""

    tenant: str
    modality: Modality | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"tenant": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_name(self) -> TopicOwner:
        if not re.fullmatch(_TENANT_NAME, self.tenant):
            raise ValueError(f"tenant {self.tenant!r} is not 1 to 64 letters, digits, dots, underscores and dashes")
        return self


class TopicPattern:
    """Names the topics of every tenant and modality, such as `media.{tenant}.{modality}`.

    Raises:
        ValueError: it does not have each of the two placeholders one time, or they stand side by side.
    """

    def __init__(self, pattern: str) -> None:
        if pattern.count(_TENANT) != 1 or pattern.count(_MODALITY) != 1:
            raise ValueError(
                f"tenants {pattern!r} is neither header nor a pattern with {_TENANT} and {_MODALITY}, such as "
                f"media.{_TENANT}.{_MODALITY}"
            )
        if f"{_TENANT}{_MODALITY}" in pattern or f"{_MODALITY}{_TENANT}" in pattern:
            raise ValueError(f"tenants {pattern!r} needs something between {_TENANT} and {_MODALITY}")
        self._pattern = pattern
        escaped = re.escape(pattern).replace(re.escape(_TENANT), f"(?P<tenant>{_TENANT_NAME})")
        modalities = "|".join(modality.value for modality in Modality)
        self._regex = re.compile(escaped.replace(re.escape(_MODALITY), f"(?P<modality>{modalities})"))

    def topic_of(self, tenant: str, modality: Modality) -> str:
        """Returns the name of a topic."""
        return self._pattern.replace(_TENANT, tenant).replace(_MODALITY, modality.value)

    def owner_of(self, topic: str) -> TopicOwner | None:
        """Returns the owner of a topic; None if its name does not fit the pattern."""
        match = self._regex.fullmatch(topic)
        return TopicOwner(tenant=match["tenant"], modality=Modality(match["modality"])) if match else None


def pattern_of(tenants: str | Mapping[str, TopicOwner] | None) -> TopicPattern | None:
    """Returns the pattern of `kafka.tenants`; None if it is a map, `header` or unset."""
    return TopicPattern(tenants) if isinstance(tenants, str) and tenants != HEADER else None
