"""Decides whose topics the ingest plane consumes, and looks for those of new tenants."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Set

from penstock.broker.tenant_topics import with_topics
from penstock.config import Settings
from penstock.config.topic_owners import HEADER, pattern_of
from penstock.errors import ConfigError
from penstock.ingest.canary import TENANT as CANARY_TENANT

logger = logging.getLogger(__name__)

INTERVAL_S = 30.0
_SETTLE_S = 5.0  # until new topics are looked for again: those of a tenant are created one after another
_MAX_SETTLE_S = 60.0  # after which they are taken up although there are still more


def check_tenants(settings: Settings) -> None:
    """Warns of topics whose events name their own tenants.

    Raises:
        ConfigError: callers of the query plane prove who they are, but nothing says whose the topics are.
    """
    tenants = settings.kafka.tenants
    if tenants is None and settings.auth.mode != "none":
        raise ConfigError(
            f"auth.mode is {settings.auth.mode}, but kafka.tenants does not say whose events a topic carries: set it "
            'to a pattern such as "media.{tenant}.{modality}", to a map of topics, or to "header", with which every '
            "client that may write to a topic writes for every tenant"
        )
    if tenants == HEADER:
        logger.warning(
            "kafka.tenants is header: every client that may write to a media topic writes and deletes for every tenant"
        )


class TenantTopics:
    """The settings with the topics that there are.

    Lanes start again for new topics, so those that are created within seconds are taken up together.

    Args:
        configured: the settings of the plane; `kafka.tenants` may be a pattern.
        clock: monotonic seconds.
    """

    def __init__(self, configured: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._configured = configured
        self._clock = clock
        self._looked_s = clock()
        self._taken: Set[str] = frozenset()
        self._seen: Set[str] = self._taken  # at the last look
        self._new_since_s: float | None = None  # that some were seen which are not taken up

    def first(self) -> Settings:
        """Returns the settings, once the topics of the plane's own tenants exist.

        Raises:
            UnavailableError, PermanentError, ConfigError: as `broker.tenant_topics.with_topics` does.
        """
        canary = self._configured.canary
        canaries = [CANARY_TENANT] if canary.interval_s and canary.query_url else []
        settings = with_topics(self._configured, create_for=[self._configured.tenant, *canaries])
        self._taken = self._seen = settings.kafka.topics().keys()
        return settings

    def later(self) -> Settings | None:
        """Returns the settings with the present topics, once there are new ones and no more are added; otherwise None.

        Raises:
            UnavailableError, ConfigError: as `first` does; the next look is at the next interval.
        """
        now_s = self._clock()
        wait_s = INTERVAL_S if self._new_since_s is None else _SETTLE_S
        if pattern_of(self._configured.kafka.tenants) is None or now_s - self._looked_s < wait_s:
            return None
        self._looked_s = now_s
        settings = with_topics(self._configured)
        before, self._seen = self._seen, settings.kafka.topics().keys()
        if not self._seen - self._taken:
            self._new_since_s = None
            return None
        if self._new_since_s is None:
            self._new_since_s = now_s
        if self._seen - before and now_s - self._new_since_s < _MAX_SETTLE_S:
            return None
        self._taken, self._new_since_s = self._seen, None
        return settings
