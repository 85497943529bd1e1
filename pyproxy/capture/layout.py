"""The names and numbers that are ours on this machine."""

from dataclasses import dataclass

LISTENERS = ("127.0.0.1", "::1")  # hosts of transparent listeners: nobody dials them
PROTOCOL = 112  # of our routes and rules (`ip rule` shows it): cleanup finds them by it
CLASSES = 0x1F  # bits of a mark that say what becomes of a packet; see `elements`
# A frame that a bridge would forward between two pods, and that is for a socket of ours
# all the same, is sent up to the bridge itself under this address.
UPWARDS = bytes.fromhex("027079000001")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where captured packets go. One per machine, unless all of it differs."""

    tcp_port: int  # of the transparent listeners at LISTENERS
    udp_port: int
    name: str = "pyproxy"  # of our tables of nftables
    # One bit of packets' marks, above CLASSES. kube-proxy has 0x4000, kubelet 0x8000,
    # Cilium 0x0f00, Calico the upper half.
    mark: int = 0x2000
    table: int = 28793  # of routes
    priority: int = 100  # of the rule that leads there

    def __post_init__(self) -> None:
        if self.mark.bit_count() != 1 or self.mark <= CLASSES:
            raise ValueError(f"mark must be one bit above {CLASSES:#x}")
