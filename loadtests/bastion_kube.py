"""`python -m loadtests.bastion_kube FOLDER WEB MANY,MANY,MANY`: kube-apiserver alone.

The real one with its etcd, so that its own proxy can be measured. Prints its port and
its CA file once it knows the pods; ends with its parent, or when told to.
"""

import signal
import sys
import threading
from pathlib import Path

from loadtests.bastion_scene import HOSTS, Places, populate
from loadtests.relay import terminate
from tests.support.realcluster import RealCluster


def main() -> None:
    """Serve until a signal."""
    folder, web, many = sys.argv[1:]
    places = Places(int(web), tuple(map(int, many.split(","))))
    signal.signal(signal.SIGTERM, terminate)  # so that its programs end, too
    # It would look for an address by the default route, which there is none of here.
    with RealCluster(Path(folder), f"--advertise-address={HOSTS[0]}") as cluster:
        populate(cluster.call, places)
        sys.stdout.write(f"{cluster.port} {cluster.ca}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
