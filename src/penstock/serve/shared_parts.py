"""Opens the parts that the query planes of several versions of the index share in one replica."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.auth import Authenticator, CodeFlow, MediaLinks, open_authenticator, open_code_flow, open_media_links
from penstock.config import Settings
from penstock.serve.answer_logs import AnswerLogs, MemoryAnswerLogs
from penstock.serve.limits.admission import Admissions, open_admissions


@dataclass(frozen=True, slots=True)
class SharedParts:
    """Callers, their limits and their answers, which are the same whichever version answers.

    Attributes:
        authenticator: finds the principals of requests.
        admissions: admit requests within the limits.
        media_links: signs links to media; None: requests need no credentials.
        sign_in: signs users of the page in at an OpenID Connect provider; None: there is none.
        logs: of answers, by which a stream is resumed although another version is served since.
    """

    authenticator: Authenticator
    admissions: Admissions
    media_links: MediaLinks | None
    sign_in: CodeFlow | None
    logs: AnswerLogs

    def close(self) -> None:
        """Ends the connections. Call it once no plane answers."""
        if self.sign_in is not None:
            self.sign_in.close()


def open_shared_parts(settings: Settings, logs: AnswerLogs | None = None) -> SharedParts:
    """Opens the parts.

    Args:
        settings: all settings.
        logs: of answers, where replicas share them; None: in memory.

    Raises:
        ConfigError: credentials or limits cannot be read as the settings name them.
    """
    return SharedParts(
        authenticator=open_authenticator(settings),
        admissions=open_admissions(settings.limits),
        media_links=None if settings.auth.mode == "none" else open_media_links(settings),
        sign_in=open_code_flow(settings),
        logs=MemoryAnswerLogs() if logs is None else logs,
    )
