"""Whether PEM bytes can be used, judged by the OpenSSL that will use them.

Keys never touch a disk on the way: OpenSSL reads files only, so it gets one in memory.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyproxy.kube.config.access import Tls


def complaint_about_authority(pem: bytes) -> str:
    """Say why these bytes name no authority to trust; empty = they name one."""
    if b"-----BEGIN " not in pem:
        return "unable to parse bytes as PEM block"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        return "failed to parse certificate"
    if not context.cert_store_stats()["x509"]:
        return "no valid certificate authority data seen"
    return ""


def complaint_about_pair(certificate: bytes, key: bytes) -> str:
    """Say why a client cannot show these; empty = it can."""
    for pem, what in ((certificate, "certificate"), (key, "key")):
        if b"-----BEGIN " not in pem:
            return f"tls: failed to find any PEM data in {what} input"
    if b"ENCRYPTED" in key:
        return "tls: private key is protected by a pass phrase"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with _in_memory(certificate) as certificate_file, _in_memory(key) as key_file:
            # With an answer, so that OpenSSL never asks the terminal for a pass phrase.
            context.load_cert_chain(certificate_file, key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "tls: private key does not match public key"
        return f"tls: {error.reason or 'certificate or key is not PEM'}"
    return ""


def client_context(tls: "Tls") -> ssl.SSLContext:
    """Make a context of what was found good before. Raise ssl.SSLError or ValueError.

    No authority = those of the system; an empty one = none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is None:
        context.load_default_certs()
    elif tls.ca:
        context.load_verify_locations(cadata=tls.ca.decode("ascii", "replace"))
    if tls.certificate and tls.key:
        with _in_memory(tls.certificate) as certificate, _in_memory(tls.key) as key:
            context.load_cert_chain(certificate, key, password="")
    return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    with open(os.memfd_create("pyproxy-pem"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
