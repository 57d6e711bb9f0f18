"""Keeps secrets out of what travels between processes: in files of the data folder, of which others get the path.

A secret in the environment is inherited by every child; one in a pickle stays in Ray's control store. So a process that
starts others first moves its secrets into files that only this user can read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from penstock.config.private_files import write_private
from penstock.config.section import FILE_SUFFIX
from penstock.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

FOLDER = "secrets"  # of the data folder
_USERINFO = re.compile(r"(?<=://)[^/\s@?#]*@")


def keep_in_files(settings: M, folder: Path) -> M:
    """Returns the settings with each secret in a file of the folder, named by its setting, such as `store.token`.

    Args:
        settings: all settings, or a section.
        folder: readable by this user alone; created if a secret needs it.

    Raises:
        ConfigError: a file cannot be written.
    """
    return _replaced(settings, (), lambda path, value: _kept(value, folder, ".".join(path)))


def without_secrets(settings: M, *, keep: Collection[str] = ()) -> M:
    """Returns the settings without secrets and without their files, for processes that read what strangers wrote.

    Args:
        settings: all settings.
        keep: names of sections that are left as they are.
    """
    kept = {name: value for name, value in settings if name in keep}
    return _replaced(settings, (), lambda *_: None).model_copy(update=kept)


def secret_names(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the path of each secret of a model of settings: `("store", "token")`."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from secret_names(annotation, (*above, name))
        elif is_secret(annotation):
            yield (*above, name)


def is_secret(annotation: object) -> bool:
    """Returns whether a field of this type holds a secret."""
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())


def remove_variables(names: Collection[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Removes variables from the environment, so that children do not inherit them. Case does not matter."""
    removed = {name.upper() for name in names}
    for name in [name for name in environment if name.upper() in removed]:
        del environment[name]


def mask_userinfo(text: str) -> str:
    """Returns a text with user and password of the URLs in it replaced by `***`."""
    return _USERINFO.sub("***@", text)


def refuse_userinfo(url: str | None, instead: str) -> str | None:
    """Returns a URL of a setting that other processes get.

    Raises:
        ValueError: it has a user or a password in it.
    """
    if url is not None and _USERINFO.search(url):
        raise ValueError(f"has a user or a password in it, which would be shown: {instead}")
    return url


def _replaced(model: M, above: tuple[str, ...], file_of: Any) -> M:
    """Returns a model with each secret None, and as its file what `file_of(path, value)` returns."""
    update: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            update[name] = _replaced(value, (*above, name), file_of)
        elif is_secret(field.annotation):
            present = value if value is not None else getattr(model, name + FILE_SUFFIX, None)
            update |= {name: None, name + FILE_SUFFIX: file_of((*above, name), present)}
    return model.model_copy(update=update) if update else model


def _kept(value: SecretStr | Path | None, folder: Path, name: str) -> Path | None:
    if not isinstance(value, SecretStr):
        return None if value is None else value.absolute()
    file = folder / name
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # `parents` alone would leave it to others
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        write_private(file, value.get_secret_value())
    except OSError as exc:
        raise ConfigError(
            f"the secret {name} cannot be kept in {file}: {exc.strerror}. Set {name}{FILE_SUFFIX} to a file that has it"
        ) from exc
    return file.absolute()
