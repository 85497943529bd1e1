"""Settings of apiserver-proxy: flags, contradictions, and what is warned of."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pyproxy.cli import program
from pyproxy.cli.apiserver_proxy import apiserver_proxy, read_config
from pyproxy.config import masked
from pyproxy.errors import ConfigError
from pyproxy.kube.config import ClientFlags
from pyproxy.modes.apiserver_proxy import ApiserverProxy
from pyproxy.modes.apiserver_proxy.certificates import (
    Certificates,
    fingerprint,
    self_signed,
)
from pyproxy.modes.apiserver_proxy.config import warnings


def parse(*arguments: str) -> ApiserverProxy:
    """The configuration that these flags make."""
    with apiserver_proxy.make_context("apiserver-proxy", list(arguments)) as context:
        flags: dict[str, Any] = dict(context.params)
    del flags["config"]
    return read_config(None, flags)


def test_defaults_are_those_of_the_contract() -> None:
    config = parse()
    assert (config.bind_address, config.secure_port) == ("0.0.0.0", 8443)
    assert config.admin_address == "127.0.0.1:9790"
    assert config.anonymous_auth
    assert config.forward_rest


def test_lists_are_given_once_with_commas_or_several_times() -> None:
    config = parse(
        "--requestheader-username-headers=X-Remote-User,X-Who",
        "--requestheader-allowed-names=a",
        "--requestheader-allowed-names=b",
        "--kubelet-preferred-address-types=Hostname,InternalIP",
    )
    assert config.request_header.username_headers == ("X-Remote-User", "X-Who")
    assert config.request_header.allowed_names == ("a", "b")
    assert config.kubelet.preferred_address_types == ("Hostname", "InternalIP")
    assert config.request_header.names.user == ("x-remote-user", "x-who")


def test_flags_lie_over_nested_fields() -> None:
    config = parse(
        "--anonymous-auth=false",
        "--connect-timeout=2s",
        "--kubeconfig=here",
        "--authorization-webhook-cache-unauthorized-ttl=0s",
    )
    assert not config.anonymous_auth
    assert float(config.timeouts.connect) == 2.0
    assert config.client.kubeconfig == "here"
    assert float(config.unauthorized_ttl) == 0.0


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--tls-cert-file=a"], "--tls-cert-file and --tls-private-key-file"),
        (["--proxy-client-key-file=a"], "go together"),
        (["--kubelet-client-key=a"], "go together"),
        (["--bind-address=localhost"], "is no IP address"),
        (["--requestheader-extra-headers-prefix=X"], "does not end with -"),
        (["--requestheader-uid-headers=a,b,c,d"], "more than 4 headers"),
        (["--kubelet-preferred-address-types=Post"], "preferredAddressTypes"),
    ],
)
def test_what_contradicts_itself_is_refused(flags: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(*flags)


def test_network_that_is_none_is_refused_as_a_flag() -> None:
    result = CliRunner().invoke(program, ["apiserver-proxy", "--allow-address=x"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_file_that_is_missing_is_named() -> None:
    config = parse("--tls-cert-file=/none.crt", "--tls-private-key-file=/none.key")
    with pytest.raises(ConfigError, match=r"/none\.crt: certificate: No such file"):
        Certificates(config)


def test_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("nothing")
    with pytest.raises(ConfigError, match=r"ca\.crt: no usable CA certificate"):
        Certificates(parse(f"--client-ca-file={file}"))


def test_what_opens_the_door_is_warned_of() -> None:
    said = " ".join(
        warnings(
            parse("--authorization-mode=always-allow", "--allow-address=127.0.0.0/8")
        )
    )
    assert "EVERY CLIENT" in said
    assert "127.0.0.0/8" in said
    quiet = parse("--kubelet-certificate-authority=ca.crt")
    assert warnings(quiet) == []


def test_secrets_are_masked() -> None:
    client = ClientFlags(token="sesame", password="sesame")
    config = msgspec.structs.replace(parse(), client=client)
    assert "sesame" not in repr(masked(config))


def test_certificate_of_our_own_has_a_fingerprint() -> None:
    pair = self_signed("192.0.2.7")
    assert len(fingerprint(pair).split(":")) == 32
    assert b"PRIVATE KEY" in pair[1]
