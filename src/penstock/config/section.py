"""The base of all sections of settings, and how a secret of one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator, model_validator

from penstock.errors import ConfigError

MIB = 1024 * 1024
FILE_SUFFIX = "_file"  # of the setting that names the file of a secret


class HasSecrets(BaseModel):
    """Settings with secrets among them.

    A secret `x` (`SecretStr | None`) has a setting `x_file` beside it, the file that holds it. Sections travel to other
    processes only with the file: one that holds the secret itself refuses to be pickled.
    """

    def secret(self, name: str) -> str:
        """Returns the secret of this name; empty if it is not set.

        That of a file is read at each call, without the line end, so that a changed file counts from the next use.

        Raises:
            ConfigError: the file cannot be read.
        """
        value = getattr(self, name)
        if value is not None:
            text: str = value.get_secret_value()
            return text.strip()
        file = getattr(self, name + FILE_SUFFIX)
        if file is None:
            return ""
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
            raise ConfigError(
                f"the secret {name} cannot be read from {file}: {reason}. The file has to be on every node that needs "
                f"it, and readable there ({name}{FILE_SUFFIX})"
            ) from None
        return text.strip()

    def has_secret(self, name: str) -> bool:
        """Returns whether the secret is set, here or by a file."""
        return getattr(self, name) is not None or getattr(self, name + FILE_SUFFIX) is not None

    def __getstate__(self) -> dict[Any, Any]:
        for name, value in self:
            if isinstance(value, SecretStr):
                raise ConfigError(
                    f"the secret {name} would leave this process: what starts other processes has to keep secrets in "
                    "files first (config.secrets.keep_in_files)"
                )
        return super().__getstate__()

    @field_validator("*")
    @classmethod
    def _files_are_absolute(cls, value: Any, info: ValidationInfo) -> Any:
        """Makes the path of a file absolute: the processes of both planes run in folders of their own."""
        is_file = isinstance(value, Path) and (info.field_name or "").endswith("file")
        return value.expanduser().absolute() if is_file else value

    @model_validator(mode="after")
    def _secrets_have_one_source(self) -> Self:
        for name, value in self:
            if isinstance(value, SecretStr) and getattr(self, name + FILE_SUFFIX, None) is not None:
                raise ValueError(f"{name} and {name}{FILE_SUFFIX} are both set: leave one of them out")
        return self


class Section(HasSecrets):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
