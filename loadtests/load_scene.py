"""`python -m loadtests.load_scene`: a bastion with everything around it, to be loaded.

The sandbox's apiserver, an application behind a Service, and `pyproxy apiserver-proxy`
in front of both. Prints a line of JSON once it serves: where, and what to trust it by.
Ends when its standard input does.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyproxy.sandbox.apiserver import write_kubeconfig
from pyproxy.sandbox.certificates import Authority
from tests.fakes.application import Application
from tests.fakes.bastion import Bastion, own_address
from tests.fakes.bastion_cluster import caller, populate
from tests.fakes.process import Program
from tests.support.bastion_rig import grant


@contextmanager
def scene(directory: Path, *flags: str) -> Iterator[dict[str, str]]:
    """Start everything; say where it is."""
    issuer = Authority(directory)
    pair = issuer.issue("server", ["127.0.0.1", "localhost"])
    files = [str(each) for each in (pair.certificate, pair.key, issuer.certificate)]
    with (
        Program(directory / "api", "tests.fakes.reviewer", "0", *files) as api,
        Application(directory / "pod", own_address(), pair) as pod,
    ):
        api.wait_for("\n")
        url = f"https://127.0.0.1:{int(api.stdout)}"
        call = caller(url, issuer.certificate)
        populate(call, pod)
        grant(call)
        kubeconfig = directory / "kubeconfig"
        write_kubeconfig(kubeconfig, url, issuer.certificate, "admin-token")
        serving = [f"--tls-cert-file={files[0]}", f"--tls-private-key-file={files[1]}"]
        with Bastion(
            directory / "bastion", kubeconfig, issuer.certificate, *serving, *flags
        ) as bastion:
            bastion.ready()
            yield {
                "host": f"https://127.0.0.1:{bastion.port}",
                "ca": files[2],
                "node": f"n1:{pod.port}",
                "pid": str(bastion.pid),
                "log": str(directory / "bastion" / "stderr"),
            }


def main() -> None:
    """Serve until standard input ends."""
    if not own_address():
        raise SystemExit("only loopback addresses here: no pod may be there")
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        with scene(Path(folder), *sys.argv[1:]) as found:
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    main()
