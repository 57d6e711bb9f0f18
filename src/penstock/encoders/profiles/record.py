"""The profile of a data folder: chosen at its first start, recorded there, and kept by every later start.

An index holds vectors of the models that filled it. So what a later start finds installed must not change the models
of a folder that has data: it continues with the recorded ones, or says what is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from penstock.config import Settings
from penstock.encoders.profiles import (
    AUTO,
    join_choices,
    join_transform,
    load_profile,
    split_choices,
    split_transform,
)
from penstock.encoders.profiles.spec import VECTOR_ROLES
from penstock.errors import ConfigError

# What a start from before there was a record leaves in its data folder.
_OLD_DATA = ("kafka", "milvus", "assets", "ingest-status.json")
_OLD_PROFILE = "reference"


@dataclass(frozen=True, slots=True)
class ProfileRecord:
    """The content of `profile.json` in a data folder.

    Attributes:
        profile: of the folder's first start; later starts that name none take it.
        chosen: by profile, the alternative by role that its first start here chose.
    """

    profile: str
    chosen: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def with_selected_profile(settings: Settings) -> Settings:
    """Returns the settings with the profile that a start would take, and with all its choices. Writes nothing.

    Raises:
        ConfigError: no such profile, or the record cannot be read.
    """
    plain, transform = split_transform(settings.profile)
    selected = join_transform(_select(plain, settings.data_dir)[0], transform)
    return settings.model_copy(update={"profile": selected})


def with_recorded_profile(settings: Settings) -> Settings:
    """Returns the settings with the profile of the data folder, recorded there if this is its first start.

    Call it where a plane starts. The processes of the plane get all choices through the settings.

    Raises:
        ConfigError: no such profile; packages of a recorded choice that fills vectors, or of speech, are no longer
            installed; the record cannot be read or written.
    """
    plain, transform = split_transform(settings.profile)
    name, record = _select(plain, settings.data_dir)
    base, _ = split_choices(name)
    missing = load_profile(name).missing_packages_of_vectors
    if missing and record is not None and base in record.chosen:
        raise ConfigError(
            f"the data folder {settings.data_dir} was filled with {name}, which needs {', '.join(missing)}: install "
            f"it again (`pip install --no-deps {' '.join(missing)}`), or start on another folder with --data-dir"
        )
    _write(settings.data_dir, name, record)
    return settings.model_copy(update={"profile": join_transform(name, transform)})


def _select(requested: str, data_dir: Path) -> tuple[str, ProfileRecord | None]:
    """Returns the profile with all its choices, and the folder's record.

    A recorded role that fills no vectors and whose packages are gone has what is installed instead, or is off.
    """
    record = _read(data_dir)
    base, choices = split_choices(requested)
    if base == AUTO:
        if record is not None:
            base, choices = split_choices(record.profile)
        elif _is_old(data_dir):
            base = _OLD_PROFILE
    recorded = {} if record is None else record.chosen.get(base, {})
    profile = load_profile(join_choices(base, {**recorded, **choices}))
    optional = recorded.keys() - choices.keys() - set(VECTOR_ROLES)
    if lost := {role for role in optional if profile.missing_packages_of(role)}:
        kept = {role: alternative for role, alternative in recorded.items() if role not in lost}
        profile = load_profile(join_choices(base, {**kept, **choices}))
    return join_choices(profile.name, profile.chosen), record


def _is_old(data_dir: Path) -> bool:
    """Returns whether the folder has data from before there was a record."""
    return not _file(data_dir).exists() and any((data_dir / name).exists() for name in _OLD_DATA)


def _file(data_dir: Path) -> Path:
    return data_dir / "profile.json"


def _read(data_dir: Path) -> ProfileRecord | None:
    try:
        content = json.loads(_file(data_dir).read_text(encoding="utf-8"))
        return ProfileRecord(content["profile"], content["chosen"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ConfigError(
            f"{_file(data_dir)} cannot be read ({exc!r}); remove it, and name the folder's profile with --profile"
        ) from exc


def _write(data_dir: Path, name: str, record: ProfileRecord | None) -> None:
    """Adds the profile to the record, and the roles that the record lacks. What it has of a profile stays."""
    base, chosen = split_choices(name)
    recorded = {} if record is None else record.chosen.get(base, {})
    if record is not None and base in record.chosen and chosen.keys() <= recorded.keys():
        return
    record = record or ProfileRecord(_OLD_PROFILE if _is_old(data_dir) else base)
    content = asdict(ProfileRecord(record.profile, {**record.chosen, base: {**chosen, **recorded}}))
    target = _file(data_dir)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(target)
    except OSError as exc:
        raise ConfigError(
            f"the data folder {data_dir} cannot be written: {exc.strerror}. Choose one with --data-dir"
        ) from exc
