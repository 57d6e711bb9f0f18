"""Starts a real broker with TLS, SASL and an authorizer, whose rights a test grants and takes away."""

from __future__ import annotations

import datetime
import ipaddress
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from penstock.config import KafkaSettings
from penstock.embedded.kafka import EmbeddedKafka
from penstock.processes import free_port
from tests.token_issuer import AUDIENCE, TokenIssuer

HOST = "127.0.0.1"
_DEADLINE_S = 10.0
PASSWORD = "right-password"
KEY_PASSWORD = "key-password"
GROUP, TOPIC, CLUSTER = ResourceType.GROUP, ResourceType.TOPIC, ResourceType.CLUSTER

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_TOKENS = "listener.name.sasl_ssl.oauthbearer.sasl"
_LOGIN = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: a CA, a broker's key and certificate of 127.0.0.1 alone, and those of a client."""

    ca: Path
    other_ca: Path
    broker: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        ca, ca_key = _certificate("Penstock test CA")
        other_ca, _ = _certificate("another CA")
        broker, broker_key = _certificate("broker", issuer=(ca, ca_key), address=HOST)
        client, client_key = _certificate("client", issuer=(ca, ca_key))
        files = cls(
            *(folder / name for name in ("ca.pem", "other-ca.pem", "broker.pem", "client.pem", "client-key.pem"))
        )
        files.ca.write_bytes(_pem(ca))
        files.other_ca.write_bytes(_pem(other_ca))
        files.broker.write_bytes(_key_pem(broker_key) + _pem(broker) + _pem(ca))
        files.client_cert.write_bytes(_pem(client))
        files.client_key.write_bytes(_key_pem(client_key, KEY_PASSWORD))
        return files


class SecuredKafka(EmbeddedKafka):
    """A broker with a listener of SASL_SSL, one of SSL that demands a client certificate, and one in the clear.

    Who connects in the clear may do everything: tests administer by it. Users are `plain` (PLAIN) and `scram`
    (SCRAM-SHA-512), the subject of a token of `tokens`, and `CN=client` by certificate; none has any right at first.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kafka", heap_mb=384)
        self.files = Certificates.make(folder)
        self.tokens = TokenIssuer(folder / "jwks.json")
        self.sasl_port, self.ssl_port = free_port(), free_port()
        self._admin: KafkaAdminClient | None = None

    def _write_settings(self, port: int) -> Path:
        properties = super()._write_settings(port)
        added = f"SASL_SSL://{HOST}:{self.sasl_port},SSL://{HOST}:{self.ssl_port}"
        clear = f"listeners=PLAINTEXT://{HOST}:{port}"
        text = properties.read_text().replace(clear, f"{clear},{added}")
        text = text.replace("map=PLAINTEXT:PLAINTEXT", "map=SASL_SSL:SASL_SSL,SSL:SSL,PLAINTEXT:PLAINTEXT")
        properties.write_text(
            text
            + f"""\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.keystore.type=PEM
ssl.keystore.location={self.files.broker}
ssl.truststore.type=PEM
ssl.truststore.location={self.files.ca}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config={_PLAIN} user_plain="{PASSWORD}";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={_SCRAM}
{_TOKENS}.jaas.config={_LOGIN}
{_TOKENS}.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
{_TOKENS}.oauthbearer.jwks.endpoint.url={self.tokens.jwks.as_uri()}
{_TOKENS}.oauthbearer.expected.audience={AUDIENCE}
"""
        )
        return properties

    def _command(self, jars: Path, properties: Path) -> list[str]:
        java, *arguments = super()._command(jars, properties)
        return [java, f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.jwks.as_uri()}", *arguments]

    def settings(self, **changed: object) -> KafkaSettings:
        """Returns settings of the user `plain`, but for what is changed."""
        fields: dict[str, object] = {
            "bootstrap_servers": f"{HOST}:{self.sasl_port}",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "plain",
            "sasl_password": SecretStr(PASSWORD),
            "ssl_cafile": self.files.ca,
            "session_timeout_ms": 3_000,
            "max_poll_interval_ms": 30_000,
        }
        return KafkaSettings.model_validate(fields | changed)

    def admin(self) -> KafkaAdminClient:
        """Returns a client that may do everything."""
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        return self._admin

    def add_scram_user(self, password: str = PASSWORD) -> None:
        """Adds the user `scram`, or changes its password."""
        added = UserScramCredentialUpsertion("scram", ScramMechanism.SCRAM_SHA_512, password.encode())
        self.admin().alter_user_scram_credentials([added])

    def create_topics(self, *topics: str, partitions: int = 1) -> None:
        """Creates topics with Kafka's own defaults."""
        self.admin().create_topics({topic: {"num_partitions": partitions} for topic in topics}, wait_for_metadata=True)

    def configure(self, topic: str, configs: dict[str, str]) -> None:
        """Changes settings of a topic."""
        self.admin().alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])

    def grant(self, kind: ResourceType, name: str, *operations: str, user: str = "plain") -> None:
        """Allows operations on a resource."""
        acls = _acls(kind, name, operations, user)
        self.admin().create_acls(acls)
        for acl in acls:
            self._await(acl, present=True)

    def revoke(self, kind: ResourceType, name: str, *operations: str, user: str = "plain") -> None:
        """Takes operations on a resource away."""
        acls = _acls(kind, name, operations, user)
        self.admin().delete_acls(acls)
        for acl in acls:
            self._await(acl, present=False)

    def revoke_all(self, user: str = "plain") -> None:
        """Takes all rights of a user away."""
        anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
        every = ACLFilter(f"User:{user}", None, ACLOperation.ANY, ACLPermissionType.ANY, anything)
        self.admin().delete_acls([every])
        self._await(every, present=False)

    def _await(self, acl: ACLFilter, *, present: bool) -> None:
        """Returns once the broker, which follows its controller, knows of a change."""
        deadline_s = time.monotonic() + _DEADLINE_S
        while bool(self.admin().describe_acls(acl)[0]) != present:
            assert time.monotonic() < deadline_s, "the broker does not learn of a changed right"

    def kill(self) -> None:
        """Kills the broker, after the client of `admin` was closed."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        super().kill()


@contextmanager
def secured_kafka() -> Iterator[SecuredKafka]:
    """Yields a running broker. Its folder is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="penstock-kafka-", ignore_cleanup_errors=True) as folder:
        broker = SecuredKafka(Path(folder))
        try:
            broker.start()
            broker.add_scram_user()
            yield broker
        finally:
            broker.kill()


def key_without_password(files: Certificates, target: Path) -> Path:
    """Writes the client's key as it is for those that cannot decrypt it."""
    key = serialization.load_pem_private_key(files.client_key.read_bytes(), KEY_PASSWORD.encode())
    plain = serialization.NoEncryption()
    target.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return target


def _acls(kind: ResourceType, name: str, operations: tuple[str, ...], user: str) -> list[ACL]:
    resource = ResourcePattern(kind, name)
    return [
        ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, resource) for operation in operations
    ]


def _certificate(
    name: str, *, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None, address: str = ""
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Returns a certificate of two days and its key; without an issuer that of a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key if issuer is None else issuer[1]
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, password: str = "") -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
