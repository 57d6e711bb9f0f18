"""Finds out why a broker lets a client in or not: kafka-python retries whatever the reason, and raises a timeout.

A wrong password, an unknown CA, another host name than the certificate's, and a missing client certificate do not cure
themselves. So the reason of a failed connection is kept, and a client that is being opened ends with it once every
bootstrap server has refused it. An open client retries as kafka-python does; `Network.refusal` says why it has to.

Private parts of kafka-python that are used here: `KafkaConnectionManager._build_transport` (wrapped), and the method
`_sock_recv` of its result, which discards what a broker sent right before it closed the connection: the reason.
pyproject.toml pins the minor version for which this was written; tests/broker/test_security.py fails without it.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from penstock.broker.oauth import TokenRefusedError
from penstock.errors import ConfigError
from penstock.observability import metrics

logger = logging.getLogger(__name__)

Credentials: TypeAlias = Callable[[], Mapping[str, Any]]

_PATIENCE_S = 3.0  # from the first refusal, for another bootstrap server that lets this client in

# OpenSSL's codes of a certificate that fails its check (X509_V_ERR_…)
_OTHER_HOST = (62, 64)
_EXPIRED = (9, 10)


class Refusal(errors.KafkaError):  # type: ignore[misc]  # kafka-python has no types
    """A broker was reached and refuses this client, or this client the broker. The text says why, and what to do."""


class Network(KafkaNetClient):  # type: ignore[misc]  # kafka-python has no types
    """The network client of a consumer, producer or admin client of kafka-python.

    Args:
        credentials: returns those of kafka-python's settings that a new connection has to have: files may have changed.
        **configs: kafka-python's settings.
    """

    def __init__(self, credentials: Credentials, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        self._connections = _Connections(net, credentials, **configs)
        super().__init__(net=net, manager=self._connections, **configs)

    @property
    def refusal(self) -> Refusal | None:
        """Returns why the latest failed connection was refused; None if one was made since."""
        return next(iter(self._connections.refusals.values()), None)


class _Connections(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python has no types
    def __init__(self, net: Any, credentials: Credentials, **configs: Any) -> None:
        super().__init__(net, **configs)
        self._credentials = credentials
        self.refusals: dict[Any, Refusal] = {}
        self._refused_s = 0.0

    def get_connection(self, node_id: Any, *args: Any, **options: Any) -> Any:
        """Opens a connection, and keeps why it fails; raises that while this client is opened."""
        if self.refusals and not self.bootstrapped and self._all_refuse():
            raise next(iter(self.refusals.values()))
        known = self._conns.get(node_id)
        if known is None:
            self._read_credentials()
        connection = super().get_connection(node_id, *args, **options)
        if connection is not known:
            connection.init_future.add_callback(lambda _: self.refusals.clear())
            connection.init_future.add_errback(partial(self._on_failure, node_id))
        return connection

    def _read_credentials(self) -> None:
        """Takes over what changed in the files; those of before, where a file cannot be read just now."""
        try:
            self.config.update(self._credentials())
        except ConfigError as exc:
            logger.warning("the next connection to Kafka has the credentials of before: %s", exc)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        transport._sock_recv = partial(_data_first, transport._sock_recv)
        return transport

    def _on_failure(self, node_id: Any, exc: BaseException) -> None:
        if isinstance(exc, errors.SaslAuthenticationFailedError) and self.config["sasl_oauth_token_provider"]:
            self.config["sasl_oauth_token_provider"].forget()
        reason = _reason(exc, self.config)
        if not reason:
            self.refusals.pop(node_id, None)
            return
        metrics.AUTH_FAILURES.labels("kafka").inc()
        if not self.refusals:
            self._refused_s = time.monotonic()
        self.refusals[node_id] = Refusal(reason)

    def _all_refuse(self) -> bool:
        bootstrap = {broker.node_id for broker in self.cluster.bootstrap_brokers()}
        return bootstrap <= self.refusals.keys() or time.monotonic() - self._refused_s > _PATIENCE_S


def _data_first(receive: Callable[[], tuple[bytes, Any]]) -> tuple[bytes, Any]:
    """Returns what was received, and the end of the connection only at the next call."""
    data, error = receive()
    return data, None if data else error


def _reason(exc: BaseException, config: dict[str, Any]) -> str:
    """Returns why a connection was refused, and what to do; empty if it failed for another cause."""
    if isinstance(exc, errors.UnsupportedSaslMechanismError):
        return (
            f"it does not offer the SASL mechanism {config['sasl_mechanism']} on this listener. Set "
            "kafka.sasl_mechanism to one that it has (sasl.enabled.mechanisms)"
        )
    if isinstance(exc, TokenRefusedError):
        return str(exc.args[0])
    if isinstance(exc, errors.SaslAuthenticationFailedError) and config["sasl_mechanism"] == "OAUTHBEARER":
        return f"it refuses the token ({_text(exc)}). Check kafka.oauth and what the broker expects of tokens"
    if isinstance(exc, errors.SaslAuthenticationFailedError):
        return (
            f"it refuses the user {config['sasl_plain_username']} by {config['sasl_mechanism']} ({_text(exc)}). Check "
            "kafka.sasl_username and kafka.sasl_password"
        )
    if isinstance(exc, errors.IllegalSaslStateError):
        return f"it expects no SASL on this listener ({_text(exc)}). Check kafka.security_protocol"
    failed = next((cause for cause in _causes(exc) if isinstance(cause, ssl.SSLError)), None)
    # A connection that ends within the handshake says nothing: a broker that stops does that, too.
    return "" if failed is None or isinstance(failed, ssl.SSLEOFError) else _tls_reason(failed)


def _tls_reason(exc: ssl.SSLError) -> str:
    alert = exc.reason or ""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _certificate_reason(exc)
    if "CERTIFICATE_REQUIRED" in alert:
        return "it demands a client certificate. Set kafka.ssl_certfile and kafka.ssl_keyfile"
    if "BAD_CERTIFICATE" in alert:  # of TLS 1.2, for a missing one too
        return "it demands another client certificate, or one at all. Check kafka.ssl_certfile and kafka.ssl_keyfile"
    if "CERTIFICATE" in alert or "UNKNOWN_CA" in alert:
        return f"it refuses the client certificate ({alert}). Check kafka.ssl_certfile, and the CAs that it trusts"
    if alert in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "it speaks no TLS on this port. Check kafka.security_protocol and the port"
    return f"TLS fails ({alert or exc}). Check kafka.security_protocol and the kafka.ssl_… settings"


def _certificate_reason(exc: ssl.SSLCertVerificationError) -> str:
    if exc.verify_code in _OTHER_HOST:
        return (
            f"its certificate is for another host ({exc.verify_message}). Use a name of the certificate in "
            "kafka.bootstrap_servers and in advertised.listeners, or set kafka.ssl_check_hostname to false"
        )
    if exc.verify_code in _EXPIRED:
        return f"its certificate is not valid now ({exc.verify_message}). Renew it, or set the clock"
    return f"its certificate is of an unknown CA ({exc.verify_message}). Set kafka.ssl_cafile to that CA's"


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception, those that it was raised for, and those that it wraps."""
    while exc is not None:
        yield exc
        yield from (part for part in exc.args if isinstance(part, BaseException))
        exc = exc.__cause__ or exc.__context__


def _text(exc: BaseException) -> str:
    return str(exc.args[0]) if exc.args else type(exc).__name__
