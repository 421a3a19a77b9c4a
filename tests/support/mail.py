"""A mail server that keeps what it is sent, for tests of alerts."""

from __future__ import annotations

import asyncio
import queue
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    import ssl

    from aiosmtpd.smtp import Envelope, Session


@dataclass
class MailSink:
    """Listens on a free port of 127.0.0.1 while it is entered.

    Attributes:
        login: user and password that a sender must give, if any; asked for only after STARTTLS, with `tls`.
        tls: offers STARTTLS.
    """

    login: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    _mails: queue.Queue[EmailMessage] = field(default_factory=queue.Queue)
    _controller: Controller | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._controller
        return self._controller.port

    def next_mail(self, seconds: float = 60) -> EmailMessage:
        """The oldest mail that was not asked for yet, as soon as it is there."""
        return self._mails.get(timeout=seconds)

    @property
    def is_empty(self) -> bool:
        """Whether all mails were asked for."""
        return self._mails.empty()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(mail, EmailMessage)
        mail["X-Recipients"] = ", ".join(envelope.rcpt_tos)
        self._mails.put(mail)
        return "250 kept"

    def _check(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any
    ) -> AuthResult:
        assert isinstance(given, LoginPassword)
        right = (given.login.decode(), given.password.decode()) == self.login
        return AuthResult(success=right)

    def __enter__(self) -> Self:
        self._controller = _AnyPort(
            self,
            hostname="127.0.0.1",
            port=0,
            tls_context=self.tls,
            authenticator=self._check if self.login else None,
            auth_required=bool(self.login),
            auth_require_tls=bool(self.tls),
            # Its challenges are worded in a way that Alertmanager does not take.
            auth_exclude_mechanism=["LOGIN"],
        )
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._controller
        self._controller.stop(no_assert=True)


class _AnyPort(Controller):
    """Connects to the port it was given by the system, where the original would try port 0."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def self_signed() -> bytes:
    """PEM of a key and of a certificate for 127.0.0.1 that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret + made.public_bytes(encoding)
