"""Derives the settings of the planes of either version while a re-index is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.versions.state import Reindex


def version_settings(settings: Settings, reindex: Reindex | None, version: int) -> Settings:
    """Returns the settings with which a version is fed and searched.

    Args:
        settings: of the deployment, as they were before the re-index.
        reindex: the re-index that is under way; None: there is one version only.
        version: the number of the version.

    Raises:
        ConfigError: a recorded setting is refused, which names it.
    """
    if reindex is not None and version == reindex.to_version:
        return with_changes(settings, reindex.settings)
    if version == settings.store.version:
        return settings
    return settings.model_copy(update={"store": settings.store.model_copy(update={"version": version})})


def with_changes(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Returns the settings with the values of some names, and of some names of sections.

    Raises:
        ConfigError: a value is refused, which names its setting.
    """
    update: dict[str, Any] = {}
    for name, value in changes.items():
        field = Settings.model_fields.get(name)
        if field is None:
            raise ConfigError(f"the re-index names the setting {name}, which this Penstock does not have")
        try:
            if isinstance(value, Mapping) and isinstance(section := getattr(settings, name), BaseModel):
                checked = type(section).model_validate({**dict(section), **value})
                update[name] = section.model_copy(update={key: getattr(checked, key) for key in value})
            else:
                annotation: Any = field.annotation
                update[name] = TypeAdapter(annotation).validate_python(value)
        except ValidationError as exc:
            message = exc.errors()[0]["msg"]
            raise ConfigError(f"the re-index has a value of the setting {name} that is refused: {message}") from exc
    return settings.model_copy(update=update)
