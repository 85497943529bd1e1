"""`python -m tests.fakes.endpoint HOST SECONDS`: an endpoint that can be killed.

It keeps connections, and takes so long for each answer, which is its process id.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TAKES_S = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Head and body in one write: a kill between the two makes a response that breaks
    # off, which no proxy can hide.
    wbufsize = -1

    def do_GET(self) -> None:
        time.sleep(TAKES_S)
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer((sys.argv[1], 0), _Handler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
