"""Several contexts of a kubeconfig on one port, as they come and go."""

import pytest

from tests.fakes.desk import Desk, write_kubeconfig
from tests.fakes.office import Office
from tests.fakes.recorder import Recorder, pair_for
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process for each test


def test_contexts_are_served_side_by_side(office: Office) -> None:
    ca = str(office.issuer.certificate)
    with Recorder(pair_for(office.issuer)) as other:
        one = {"server": office.upstream.url, "certificate-authority": ca}
        two = {"server": other.url, "certificate-authority": ca}
        write_kubeconfig(
            office.file,
            {
                "one": (one, {"token": "one"}),
                "arn:two/x": (two, {"token": "two"}),
                "broken": (one | {"certificate-authority": "/none"}, {}),
            },
        )
        with office.proxy(Desk, "--contexts=*") as proxy:
            assert proxy.ask("/a").status == 200
            assert proxy.ask("/contexts/one/b").status == 200
            assert proxy.ask("/contexts/arn:two%2Fx/c%2Fd?e").status == 200
            assert proxy.ask("/contexts/broken/a").status == 404
            assert proxy.ask("/contexts/none/a").status == 404
            listed = proxy.ask("/contexts/")
            assert b"/contexts/arn%3Atwo%2Fx/" in listed.body
            assert b"context not served" in proxy.stderr.encode()
        went = [(s.target, s.get("authorization")) for s in office.upstream.seen]
        assert went == [("/a", "Bearer one"), ("/b", "Bearer one")]
        went = [(s.target, s.get("authorization")) for s in other.seen]
        assert went == [("/c%2Fd?e", "Bearer two")]


def test_contexts_that_come_and_go_are_followed(office: Office) -> None:
    ca = str(office.issuer.certificate)
    cluster = {"server": office.upstream.url, "certificate-authority": ca}
    one = (cluster, {"token": "one"})
    two = (cluster, {"token": "two"})
    write_kubeconfig(office.file, {"one": one})
    with office.proxy(Desk, "--contexts=*") as proxy:
        assert proxy.ask("/contexts/two/a").status == 404
        write_kubeconfig(office.file, {"one": one, "two": two})
        wait_until(lambda: proxy.ask("/contexts/two/a").status == 200, 10.0)
        assert office.upstream.seen[-1].get("authorization") == "Bearer two"
        assert b"/contexts/two/" in proxy.ask("/contexts/").body
        late = office.directory / "late"
        broken = (cluster, {"tokenFile": str(late)})
        write_kubeconfig(office.file, {"one": one, "broken": broken})
        wait_until(lambda: proxy.ask("/contexts/two/a").status == 404, 10.0)
        wait_until(lambda: "context not served" in proxy.stderr, 10.0)
        late.write_text("broken")
        wait_until(lambda: proxy.ask("/contexts/broken/a").status == 200, 10.0)
        assert proxy.stderr.count("context not served") == 1
        assert proxy.ask("/contexts/one/a").status == 200


def test_context_that_is_named_may_come_later(office: Office) -> None:
    ca = str(office.issuer.certificate)
    cluster = {"server": office.upstream.url, "certificate-authority": ca}
    one, two = (cluster, {"token": "one"}), (cluster, {"token": "two"})
    write_kubeconfig(office.file, {"one": one})
    with office.proxy(Desk, "--contexts=two") as proxy:
        assert proxy.ask("/contexts/two/a").status == 404
        assert "context not served" in proxy.stderr
        write_kubeconfig(office.file, {"one": one, "two": two})
        wait_until(lambda: proxy.ask("/contexts/two/a").status == 200, 10.0)
        office.file.write_text("{ rubbish")
        wait_until(lambda: "kubeconfig not reloaded" in proxy.stderr, 10.0)
        assert proxy.ask("/contexts/two/a").status == 200
        assert proxy.stderr.count("kubeconfig not reloaded") == 1


def test_context_that_the_core_cannot_take_spoils_no_other(office: Office) -> None:
    ca = str(office.issuer.certificate)
    cluster = {"server": office.upstream.url, "certificate-authority": ca}
    good = (cluster, {"token": "one"})
    bad = (cluster | {"tls-server-name": "no name"}, {"token": "two"})
    write_kubeconfig(office.file, {"good": good, "bad": bad})
    with office.proxy(Desk, "--contexts=*") as proxy:
        assert proxy.ask("/contexts/good/a").status == 200
        assert proxy.ask("/contexts/bad/a").status == 404
        assert "server name 'no name' is neither" in proxy.stderr
        write_kubeconfig(office.file, {"good": (bad[0], good[1])})
        wait_until(lambda: "kubeconfig not reloaded" in proxy.stderr, 10.0)
        assert proxy.ask("/contexts/good/a").status == 200
        assert proxy.ask("/a").status == 200


def test_contexts_are_not_served_unless_asked_for(office: Office) -> None:
    with office.proxy(Desk) as proxy:
        assert proxy.ask("/contexts/main/a").status == 200
        assert office.upstream.seen[0].target == "/contexts/main/a"


def test_context_named_beside_all_of_them_is_missed(office: Office) -> None:
    with office.proxy(Desk, "--contexts=*", "--contexts=typo") as proxy:
        assert proxy.ask("/contexts/main/a").status == 200
        assert "context not served context=typo" in proxy.stderr
