"""Hosts that stand for Services, and those that only look like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.http.proxypath import split_id
from pyproxy.http.virtualhost import NOWHERE, parse_host, suffix_of

SUFFIXES = ("example.org", "localhost")

SERVICES = {
    "web.shop.svc.example.org": ("shop", "web"),
    "web.shop.svc.example.org:8443": ("shop", "web"),
    "web.shop.svc.localhost": ("shop", "web"),
    "WEB.Shop.SVC.Example.ORG": ("shop", "web"),
    "web.shop.svc.example.org.": ("shop", "web"),
    "web.shop.svc.example.org.:80": ("shop", "web"),
    "web.shop.svc.example.org:": ("shop", "web"),
    "web--8080.shop.svc.example.org": ("shop", "web:8080"),
    "web--http-alt.shop.svc.example.org": ("shop", "web:http-alt"),
    "https--web.shop.svc.example.org": ("shop", "https:web:"),
    "https--web--443.shop.svc.example.org": ("shop", "https:web:443"),
    "http--https--80.shop.svc.example.org": ("shop", "http:https:80"),
    "http--a--b--80.shop.svc.example.org": ("shop", "http:a--b:80"),
    "https.shop.svc.example.org": ("shop", "https"),
    "https--https.shop.svc.example.org": ("shop", "https:https:"),
    "a-b.0-9.svc.example.org": ("0-9", "a-b"),
    "xn--caf-dma.shop.svc.example.org": ("shop", "xn:caf-dma"),
    "svc.svc.svc.example.org": ("svc", "svc"),
}


@pytest.mark.parametrize("host", SERVICES)
def test_host_names_a_service(host: str) -> None:
    found = parse_host(host, SUFFIXES)
    assert found is not None
    assert found.path is not None
    assert (found.path.namespace, found.path.id) == SERVICES[host]
    assert split_id(found.path.id) is not None
    assert (found.path.kind, found.path.prefix, found.path.strip) == ("services", "", 0)


@pytest.mark.parametrize(
    "name",
    [
        *("web", "a.b.c", ".shop", "web.", "..", "web..shop", "-web.shop", "web-.shop"),
        *("web--.shop", "--web.shop", "--80.shop", "a----b.shop", "a---b.shop"),
        *("https--.shop", "http----80.shop", "web%2e.shop", "web%2f..shop", "w_b.shop"),
        *("we b.shop", "web/../x.shop", "n\xe9e.shop", "web.sh%6fp", "w" * 64 + ".s"),
        *("web.shop.svc.example.org", "web.shop\t", "web.shop@x", "web:80.shop"),
    ],
)
def test_host_that_only_looks_like_ours_is_served_in_no_way(name: str) -> None:
    assert parse_host(f"{name}.svc.example.org", SUFFIXES) in (NOWHERE, None)
    if ":" not in name:
        assert parse_host(f"{name}.svc.example.org", SUFFIXES) is NOWHERE


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.org", "svc.example.org", "bastion.example.org", "x.svc.other"),
        *("10.0.0.1", "[::1]:8443", "localhost:8443", "web.shop.svcXexample.org"),
        *("web.shop.svc.example.org.evil.com", "web.shop.svc.example.orgx"),
        *("web.shop.svc.example.com", "[web.shop.svc.example.org]"),
    ],
)
def test_other_hosts_are_not_ours(host: str) -> None:
    assert parse_host(host, SUFFIXES) is None


@pytest.mark.parametrize(
    "host",
    [
        "web.shop.svc.example.org..",
        "web.shop.svc.example.org:x",
        "a.b.svc.localhost:1:2",
    ],
)
def test_odd_ends_of_our_hosts_are_served_in_no_way(host: str) -> None:
    assert parse_host(host, SUFFIXES) is NOWHERE


@given(st.text(alphabet="ab-.:%/\\\0é\u0130@[]", max_size=12))
def test_what_a_host_names_can_be_named_by_a_url(name: str) -> None:
    found = parse_host(f"{name}.svc.localhost", SUFFIXES)
    if found is None or found.path is None:
        return
    assert split_id(found.path.id) is not None
    assert not set(found.path.id + found.path.namespace) - set("ab-:")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("example.org", "example.org"), ("*.Apps.Example.", "apps.example"), ("x", "x")],
)
def test_suffix_is_read_as_people_write_it(text: str, wanted: str) -> None:
    assert suffix_of(text) == wanted


@pytest.mark.parametrize("text", ["", ".", "a..b", ".x", "*", "x:80", "n\xe9e", "a/b"])
def test_suffix_that_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no name of a domain"):
        suffix_of(text)
