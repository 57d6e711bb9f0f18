"""Changes the password of a user of a broker that this process administers, such as the embedded one."""

from __future__ import annotations

from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from penstock.broker.client import connection_arguments, open_client, translated
from penstock.config import KafkaSettings
from penstock.errors import PermanentError


def set_password(settings: KafkaSettings, user: str, password: str) -> None:
    """Adds a user of SCRAM-SHA-512, or changes its password.

    Args:
        settings: of the broker, as a user that may do so.
        user, password: of the other user.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: it refuses this client.
        PermanentError: it refuses the user or the password.
    """
    credential = UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password.encode())
    with translated(f"set the password of {user}", settings):
        admin = open_client(KafkaAdminClient, connection_arguments(settings))
        try:
            refusal = admin.alter_user_scram_credentials([credential]).get(user)
        finally:
            admin.close()
    if refusal is not None:
        raise PermanentError(f"could not set the password of {user!r}: the broker says {refusal}")
