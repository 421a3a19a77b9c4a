"""The front door: TLS, redirects, names, the headers that are everywhere."""

from __future__ import annotations

import ssl
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from support.gateway import MINE

if TYPE_CHECKING:
    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
HSTS = "max-age=31536000"


def insecure(version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0") -> ssl.SSLContext:
    """A client that would take anything, of one version of the protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_from_1_2_on_is_spoken(version: ssl.TLSVersion, site: Site) -> None:
    with site.nginx.connect(insecure(version)) as connection:
        assert connection.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2"}.get(version, "TLSv1.3")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused(version: ssl.TLSVersion, site: Site) -> None:
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|protocol version"):
        site.nginx.connect(insecure(version))


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "NULL"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(ciphers: str, site: Site) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        site.nginx.connect(insecure(ssl.TLSVersion.TLSv1_2, f"{ciphers}:@SECLEVEL=0"))


def test_http_2_is_offered(site: Site) -> None:
    context = site.nginx.trust()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with site.nginx.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("path", ["/", "/viewer?StudyInstanceUIDs=1.2", "/dicom-web/studies", "/auth/admin"])
def test_http_is_sent_to_the_public_url(path: str, site: Site) -> None:
    connection = HTTPConnection("127.0.0.1", site.nginx.http_port, timeout=10)
    connection.request("GET", path, headers={"Host": "elsewhere.example"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, f"{site.nginx.public_url}{path}")
    connection.close()


def test_another_name_is_sent_to_the_public_url(site: Site) -> None:
    for name in ("elsewhere.example", "127.0.0.1"):
        answer = site.nginx.get("/viewer?x=1", Host=name)
        assert (answer.status, answer.headers["Location"]) == (307, f"{site.nginx.public_url}/viewer?x=1")
    # Monitoring inside asks by the service's name, without following.
    assert site.nginx.get("/", Host="nginx").status == 200


def test_lets_encrypt_is_answered_over_http(site: Site) -> None:
    folder = site.nginx.certificates / "acme" / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "token").write_text("answer")
    connection = HTTPConnection("127.0.0.1", site.nginx.http_port, timeout=10)
    connection.request("GET", "/.well-known/acme-challenge/token")
    assert connection.getresponse().read() == b"answer"
    connection.request("GET", "/.well-known/acme-challenge/../../../privkey.pem")
    answer = connection.getresponse()
    assert b"PRIVATE" not in answer.read()
    connection.close()


def test_strict_transport_security_is_on_every_answer_once(site: Site) -> None:
    site.keycloak.extra = {"Strict-Transport-Security": "max-age=1; includeSubDomains"}
    site.world.set_study(MINE, revision=2)
    answers = [
        site.nginx.get(path)
        for path in ("/", "/app-config.js", "/sw.js", "/auth/x", "/grafana/", "/metrics", "/signed-out.html")
    ]
    answers += [site.dicom("/studies"), site.dicom("/studies", ""), site.dicom(f"{MINE.path()}/frames/1")]
    answers += [site.dicom("/studies/1.2/nothing"), site.nginx.get("/_archive/1/x")]
    site.keycloak.extra = {}
    assert [answer.headers.getlist("Strict-Transport-Security") for answer in answers] == [[HSTS]] * 12


def test_health_is_told_on_every_port(site: Site) -> None:
    assert site.nginx.get("/healthz").data == b"ok\n"
    for port in (site.nginx.http_port, site.nginx.status_port):
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok\n")
        connection.close()


def test_the_status_is_on_its_own_port_only(site: Site) -> None:
    connection = HTTPConnection("127.0.0.1", site.nginx.status_port, timeout=10)
    connection.request("GET", "/nginx_status")
    assert b"Active connections" in connection.getresponse().read()
    connection.close()
    assert site.nginx.get("/nginx_status").status == 404


def test_the_version_is_not_told(site: Site) -> None:
    answer = site.nginx.get("/sw.js")
    assert answer.headers["Server"] == "nginx"
    assert b"nginx/1" not in answer.data
