"""Looks up the topics of tenants that a pattern names, since new ones appear while Penstock runs."""

from __future__ import annotations

from collections.abc import Collection

from penstock.broker.topics import ensure_media_topics, list_topics
from penstock.config import Settings
from penstock.config.topic_owners import pattern_of


def with_topics(settings: Settings, *, create_for: Collection[str] = ()) -> Settings:
    """Returns settings that know the topics of all tenants; the same unless `kafka.tenants` is a pattern.

    Topics that this client may not describe stay unknown.

    Args:
        settings: with the addresses of Kafka.
        create_for: tenants whose missing topics are created.

    Raises:
        UnavailableError: no broker answers.
        PermanentError, ConfigError: as `ensure_topics` does.
    """
    kafka = settings.kafka
    pattern = pattern_of(kafka.tenants)
    if pattern is None:
        return settings
    modalities = settings.ingest.modalities
    if own := [pattern.topic_of(tenant, modality) for tenant in create_for for modality in modalities]:
        ensure_media_topics(kafka, own)
    owners = {name: owner for name in list_topics(kafka) if (owner := pattern.owner_of(name)) is not None}
    return settings.model_copy(update={"kafka": kafka.model_copy(update={"tenants": owners})})
