"""Which servers our clients believe: one table for probes, our requests, and the core.

Expectations: kubectl 1.37.1, which is asked again where it is installed; Go's
x509.Certificate.Verify and VerifyHostname.
"""

import asyncio
import base64
import datetime
import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fastpath.api.tlsspec import ClientTls as CoreTls
from fastpath.tls.context import ClientContext
from pyproxy.config import Check
from pyproxy.kube.config.access import Tls
from pyproxy.kube.config.pem import client_context
from pyproxy.model import Backend
from pyproxy.probe import TlsShelf, targets_of
from pyproxy.probe.state import Result
from pyproxy.probe.wire import probe
from pyproxy.sandbox.certificates import Pair
from pyproxy.tls import shown_name
from tests.fakes.kubectl import Recorder, ask, environment, one_context, write
from tests.support.tls_tools import our_client, spin

pytestmark = pytest.mark.live

PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate as it is handed around."""
        return self.certificate.public_bytes(PEM)


def make(
    name: str,
    issuer: Made | None = None,
    names: tuple[str, ...] = (),
    *,
    ca: bool | None = False,
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = DAY,
    usage: x509.ObjectIdentifier | None = None,
) -> Made:
    """Make a certificate; without an issuer it signs itself, `ca=None` = no word of it.

    An address among `names` is one of DNS if `dns:` stands before it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName(map(_name, names))
        builder = builder.add_extension(alternatives, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _name(text: str) -> x509.GeneralName:
    if text.startswith("dns:"):
        return x509.DNSName(text.removeprefix("dns:"))
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


ROOT = make("root", ca=True)
MIDDLE = make("middle", ROOT, ca=True)
OTHER = make("other", ca=True)
NO_CA = make("no ca", ROOT, ("x",))
SILENT = make("silent", ca=None)
API = make("api.test", MIDDLE, ("api.test",))
ITSELF = make("api.test", names=("api.test",))


@dataclass(frozen=True)
class Row:
    """What a server shows, whom its client trusts, and whether that is enough."""

    shown: tuple[Made, ...]
    trusted: tuple[Made, ...]
    name: str = "api.test"
    believed: bool = True
    sni: str | None = field(default="")  # "" = the name as it is


def leaf(*names: str, subject: str = "leaf", **more: object) -> tuple[Made, ...]:
    """Return one that the root has signed."""
    return (make(subject, ROOT, names, **more),)  # type: ignore[arg-type]


ROWS = {
    "root": Row((API, MIDDLE), (ROOT,)),
    "root, and no chain": Row((API,), (ROOT,), believed=False),
    "intermediate": Row((API,), (MIDDLE,)),
    "intermediate, and the chain is shown": Row((API, MIDDLE), (MIDDLE,)),
    "the certificate itself, signed by others": Row((API,), (API,)),
    "the certificate itself, signed by itself": Row((ITSELF,), (ITSELF,)),
    "another one": Row((API, MIDDLE), (OTHER,), believed=False),
    "another one beside": Row((API, MIDDLE), (OTHER, ROOT)),
    "issuer that is no authority": Row(
        (make("api.test", NO_CA, ("api.test",)), NO_CA), (ROOT,), believed=False
    ),
    "anchor that is no authority": Row(
        (make("api.test", NO_CA, ("api.test",)),), (NO_CA,), believed=False
    ),
    "anchor that says nothing of itself": Row(
        (make("api.test", SILENT, ("api.test",)),), (SILENT,), believed=False
    ),
    "subject alone": Row(leaf(subject="api.test"), (ROOT,), believed=False),
    "subject beside another name": Row(
        leaf("other.test", subject="api.test"), (ROOT,), believed=False
    ),
    "name of several": Row(leaf("a.test", "api.test"), (ROOT,)),
    "another name": Row(leaf("other.test"), (ROOT,), believed=False),
    "dot at the end": Row(leaf("api.test"), (ROOT,), "api.test.", sni="api.test"),
    "capitals are asked for": Row(leaf("api.test"), (ROOT,), "API.Test"),
    "capitals are shown": Row(leaf("API.test"), (ROOT,)),
    "star": Row(leaf("*.api.test"), (ROOT,), "x.api.test"),
    "star for two labels": Row(
        leaf("*.api.test"), (ROOT,), "a.b.api.test", believed=False
    ),
    "star for none": Row(leaf("*.api.test"), (ROOT,), believed=False),
    "star within a label": Row(leaf("a*.test"), (ROOT,), believed=False),
    "star in the middle": Row(leaf("x.*.test"), (ROOT,), "x.api.test", believed=False),
    "underscore": Row(leaf("a_b.test"), (ROOT,), "a_b.test"),
    "address": Row(leaf("127.0.0.1"), (ROOT,), "127.0.0.1", sni=None),
    "address of IPv6": Row(leaf("::1"), (ROOT,), "::1", sni=None),
    "another address": Row(
        leaf("127.0.0.2"), (ROOT,), "127.0.0.1", believed=False, sni=None
    ),
    "address as a DNS name": Row(
        leaf("dns:127.0.0.1"), (ROOT,), "127.0.0.1", believed=False, sni=None
    ),
    "address as the subject": Row(
        leaf(subject="127.0.0.1"), (ROOT,), "127.0.0.1", believed=False, sni=None
    ),
    "name, and an address is shown": Row(leaf("127.0.0.1"), (ROOT,), believed=False),
    "expired": Row(leaf("api.test", ends=-DAY / 2), (ROOT,), believed=False),
    "not yet valid": Row(leaf("api.test", begins=DAY / 2), (ROOT,), believed=False),
    "for clients only": Row(
        leaf("api.test", usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        (ROOT,),
        believed=False,
    ),
    "for servers": Row(
        leaf("api.test", usage=ExtendedKeyUsageOID.SERVER_AUTH), (ROOT,)
    ),
}
# What Go believes and OpenSSL does not, whatever it is told: all of ours do the same.
UNLIKE = {
    "star before one label": Row(leaf("*.test"), (ROOT,), believed=False),
}


class Server:
    """Shows a row's certificates."""

    def __init__(self, directory: Path, row: Row) -> None:
        self.row = row
        self.directory = directory
        self.files = Pair(directory / "server.crt", directory / "server.key")
        self.files.certificate.write_bytes(b"".join(each.pem for each in row.shown))
        key = row.shown[0].key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.files.key.write_bytes(key)
        self.ca = b"".join(each.pem for each in row.trusted)
        self.recorder = Recorder(self.files)

    def kubectl(self) -> bool:
        """Whether kubectl believes it."""
        cluster = {
            "server": self.recorder.url,
            "tls-server-name": self.row.name,
            "certificate-authority-data": base64.b64encode(self.ca).decode(),
        }
        document = one_context(cluster, {"token": "t"})
        file = write(self.directory / "config", document)
        env = environment(self.directory, KUBECONFIG=str(file))
        return ask("get", "--raw=/", env=env)[0] == 0

    def probe(self) -> bool:
        """Whether a probe does."""
        file = self.directory / "ca.crt"
        file.write_bytes(self.ca)
        check = Check(ca=str(file), server_name=self.row.name)
        host, port = "127.0.0.1", self.recorder.address.port
        backend = Backend(host, port, host)
        ((target, _),) = targets_of(check, [backend], TlsShelf().get(check))
        return asyncio.run(probe(target)).result is Result.READY

    def request(self) -> bool:
        """Whether a request of ours does."""
        context = client_context(Tls(self.ca, None, None, self.row.name, verify=True))
        where = ("127.0.0.1", self.recorder.address.port)
        name = shown_name(self.row.name)
        try:
            with (
                socket.create_connection(where) as plain,
                context.wrap_socket(plain, server_hostname=name),
            ):
                return True
        except OSError:
            return False

    def core(self) -> bool:
        """Whether the core does."""
        context = ClientContext(CoreTls(ca=self.ca, server_name=self.row.name))
        connection = socket.create_connection(("127.0.0.1", self.recorder.address.port))
        connection.setblocking(False)
        ours = our_client(connection, context)
        try:
            spin(ours.handshake)
        except OSError:
            return False
        finally:
            ours.close()
        return True


Ask = Callable[[Server], bool]
CLIENTS: dict[str, Ask] = {
    "probe": Server.probe,
    "request": Server.request,
    "core": Server.core,
}


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One of the row."""
    made = Server(tmp_path, ROWS[request.param])
    with made.recorder:
        yield made


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", ROWS, indirect=True)
def test_server_is_believed_by_all_of_our_clients_or_by_none(
    server: Server, client: str
) -> None:
    assert CLIENTS[client](server) is server.row.believed
    sni = server.row.name if server.row.sni == "" else server.row.sni
    assert server.recorder.names == [sni]


@pytest.mark.parametrize("server", ROWS, indirect=True)
def test_kubectl_believes_the_same_servers(server: Server) -> None:
    assert server.kubectl() is server.row.believed
    sni = server.row.name if server.row.sni == "" else server.row.sni
    assert set(server.recorder.names) == {sni}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("row", UNLIKE)
def test_server_that_openssl_alone_refuses_is_refused_by_all(
    tmp_path: Path, row: str, client: str
) -> None:
    server = Server(tmp_path, UNLIKE[row])
    with server.recorder:
        assert CLIENTS[client](server) is server.row.believed
