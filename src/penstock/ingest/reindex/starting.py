"""Begins a re-index, or continues the one that is under way; refuses what cannot work."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.encoders.profiles import TransformChoice, join_transform, split_transform
from penstock.encoders.profiles.record import with_selected_profile
from penstock.errors import ConfigError
from penstock.records import Collection as EntryCollection
from penstock.records import Field
from penstock.store.base import IndexSpec
from penstock.store.names import ASSET, PhysicalCollection
from penstock.store.provenance import EncoderInfo
from penstock.versions import Phase, Reindex, read_ended, read_reindex, write_reindex

_VERSION_OF_GROUP = re.compile(r"\.v\d+(\.\d+)?$")


class KnownVersions(Protocol):
    """Lists physical collections; `store.milvus.aliases.Aliases`."""

    def candidates(self, alias: str) -> Collection[PhysicalCollection]:
        """Returns the physical collections that could serve an alias."""

    def served(self, alias: str) -> PhysicalCollection | None:
        """Returns the physical collection behind an alias; None if there is no such alias."""


def begin_reindex(
    settings: Settings,
    notes: AssetStore,
    versions: KnownVersions,
    *,
    profile: str | None,
    transform: TransformChoice | None = None,
    again: bool = False,
    now_ms: int,
) -> tuple[Reindex, bool]:
    """Returns the re-index to work on, and whether it begins now. Its record is written.

    Args:
        settings: of the deployment: those of the version that is served.
        notes: the asset store, which has the record.
        versions: of the index.
        profile: the models of the new version; None: those of the re-index that is under way, or with a transform
            those of the version that is served.
        transform: maps the vectors of the version that is served, so that no media are read; None: nothing does.
        again: begins also with the models of the re-index that ended last.
        now_ms: milliseconds since the epoch.

    Raises:
        ConfigError: another re-index is under way, the last one had these models, or the index is not that of settings.
        UnavailableError: the asset store or the store does not answer.
    """
    reindex = read_reindex(notes)
    if reindex is not None:
        return _continued(settings, reindex, profile, transform), False
    if transform is not None:
        profile = _with_transform(settings, profile, transform)
    if profile is None:
        raise ConfigError("no re-index is under way: name the models of the new version with --profile")
    served = versions.served(ASSET)
    if served is None:
        raise ConfigError(
            "the store has no index that a new version could be filled from: start `penstock ingest` with the profile"
        )
    if served.version != settings.store.version:
        raise ConfigError(
            f"version {served.version} of the index is served, and store.version is {settings.store.version}: correct "
            "it first"
        )
    selected = _selected(settings, profile)
    if not again:
        _refuse_ended(notes, selected)
    version = _next_version(versions)
    # The number of a version that was dropped is used again, and its group still has offsets, at the end of the topics.
    group = f"{_VERSION_OF_GROUP.sub('', settings.kafka.group)}.v{version}.{now_ms}"
    reindex = Reindex(
        from_version=served.version,
        to_version=version,
        profile=selected,
        group=group,
        started_ms=now_ms,
        transform=None if transform is None else str(transform.file.expanduser().absolute()),
        settings={"profile": selected, "kafka": {"group": group}, "store": {"version": version}},
    )
    write_reindex(notes, reindex)
    return reindex, True


def _next_version(versions: KnownVersions) -> int:
    return 1 + max(name.version for alias in (ASSET, *EntryCollection) for name in versions.candidates(alias))


def _refuse_ended(notes: AssetStore, profile: str) -> None:
    """Raises if the last re-index had these models: a supervisor starts its plane again after `drop`."""
    ended = read_ended(notes)
    if ended is not None and ended.profile == profile:
        at = datetime.fromtimestamp(ended.ended_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        raise ConfigError(
            f"the re-index with profile {profile} has ended at {at}, by `penstock reindex drop`: version "
            f"{ended.removed} of the index was removed, version {ended.kept} stayed. Add --again to begin another one"
        )


def _with_transform(settings: Settings, profile: str | None, transform: TransformChoice) -> str:
    """Returns the profile of the version that is served with a transform."""
    served = split_transform(settings.profile)
    if profile is not None and _selected(settings, profile) != _selected(settings, settings.profile):
        raise ConfigError(
            "a transform maps the vectors of the version that is served: leave out --profile, or name its profile"
        )
    if served[1] is not None:
        raise ConfigError(
            f"the vectors of the version that is served are transformed already ({served[1].file}), and a second "
            "transform of them is not supported: fill a version from the media with --profile first"
        )
    return join_transform(settings.profile, transform)


def _continued(settings: Settings, reindex: Reindex, profile: str | None, transform: TransformChoice | None) -> Reindex:
    described = f"of version {reindex.from_version} to version {reindex.to_version} with profile {reindex.profile}"
    if reindex.phase is Phase.DROPPED:
        raise ConfigError(f"a re-index {described} ends: run `penstock reindex drop` again to finish it")
    if settings.store.version != reindex.from_version:
        raise ConfigError(
            f"a re-index {described} is under way, and store.version is {settings.store.version}: set it to "
            f"{reindex.from_version} until `penstock reindex drop`"
        )
    requested = settings.profile if profile is None and transform is not None else profile
    if requested is not None and join_transform(_selected(settings, requested), transform) != reindex.profile:
        raise ConfigError(
            f"a re-index {described} is under way: continue it without --profile, or remove it with `penstock reindex "
            "drop`"
        )
    return reindex


def _selected(settings: Settings, profile: str) -> str:
    """Returns the profile with all its choices, as a start would take it here."""
    named = str(Path(profile).expanduser().absolute()) if profile.endswith(".toml") else profile
    return with_selected_profile(settings.model_copy(update={"profile": named})).profile


def check_differs(spec: IndexSpec, present: Mapping[EntryCollection, Mapping[Field, EncoderInfo]]) -> None:
    """Returns if a new version has other vectors than the present one.

    Args:
        spec: of the new version.
        present: the encoders that filled the present version, by collection and field.

    Raises:
        ConfigError: every vector would be the same.
    """
    planned = {
        collection: {field: EncoderInfo.from_spec(vector) for field, vector in fields.items()}
        for collection, fields in spec.vectors.items()
    }
    # A backend with one vector field in a collection leaves others out, in either version.
    compared = {
        collection: {field: info for field, info in fields.items() if field in present.get(collection, fields)}
        for collection, fields in planned.items()
    }
    if compared == {collection: dict(fields) for collection, fields in present.items() if fields}:
        raise ConfigError(
            "the encoders of this profile are those that filled the present version, so that every vector would be the "
            "same: name another profile, or add --anyway if other settings make other entries"
        )


def with_phase(notes: AssetStore, phase: Phase, *, dropping: int | None = None) -> Reindex:
    """Writes the phase of the re-index that is under way, and returns its record.

    Raises:
        ConfigError: none is under way.
    """
    reindex = read_reindex(notes)
    if reindex is None:
        raise ConfigError("no re-index is under way")
    reindex = replace(reindex, phase=phase, dropping=dropping)
    write_reindex(notes, reindex)
    return reindex
