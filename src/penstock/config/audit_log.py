"""Settings of the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from penstock.config.section import Section


class AuditLogSettings(Section):
    """The audit log: a line of JSON for each request and each command that changes something."""

    output: Literal["auto", "off", "stdout", "file"] = Field(
        "auto",
        description="where the audit log goes: file; stdout, for log collectors; off; auto: file where requests carry "
        "credentials (`auth.mode`), else off",
    )
    file: Path | None = Field(
        None,
        description="file of the audit log, created 0600 and only ever appended to; unset: audit-log.jsonl in "
        "the data folder",
    )
    text: bool = Field(
        False, description="whether the audit log has the text of questions; else it has only their SHA-256"
    )
