"""Does an installed wheel forward? One relay to an echo server; prints what it did."""

import socket
import threading

from fastpath import Backend, Engine, Pool, Table, Vip

GREETING = b"the quick brown fox" * 1000


def echo_once(listener: socket.socket) -> None:
    """Serve one client until it half-closes."""
    connection, _ = listener.accept()
    with connection:
        while chunk := connection.recv(65536):
            connection.sendall(chunk)


def main() -> None:
    """Send through a relay, read back, compare."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Engine(workers=1) as core:
        server = threading.Thread(target=echo_once, args=(listener,), daemon=True)
        server.start()
        backend = Backend("127.0.0.1", listener.getsockname()[1])
        vip = Vip("127.0.0.1", 0, "tcp", Pool((backend,)))
        core.apply(Table([vip]))
        with socket.create_connection(core.address(vip), timeout=10) as client:
            client.sendall(GREETING)
            client.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.recv(65536), b""))
        server.join(10)
    if received != GREETING:
        raise SystemExit(f"sent {len(GREETING)} bytes, got {len(received)} back")
    print(f"relayed {len(received)} bytes")


if __name__ == "__main__":
    main()
