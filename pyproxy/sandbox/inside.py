"""What runs inside of the sandbox's cluster: the page of a pod, and a kubelet.

`python -m pyproxy.sandbox.inside HOST PORT KUBELET CERTIFICATE KEY CA` prints the two
ports. The page is plain HTTP, as a pod's is; the kubelet wants a client certificate.
"""

import asyncio
import html
import ssl
import sys
import time

from aiohttp import web

PAGE = """<!doctype html>
<html><head><title>A page inside</title></head><body>
<h1>A page inside</h1>
<p>You asked {host} for {path}; I am a pod that nobody outside can dial.</p>
<p><a href="/deeper">A link from the root</a> works by the name of the Service
(<tt>page.default.svc.localhost</tt>); below a proxy URL it leads out of it.
<a href="deeper">This one</a> works everywhere.</p>
</body></html>
"""
STARTED_S = time.time()


async def page(request: web.Request) -> web.Response:
    """Say who was asked for what."""
    said = {"host": html.escape(request.host), "path": html.escape(request.path)}
    return web.Response(text=PAGE.format(**said), content_type="text/html")


async def metrics(request: web.Request) -> web.Response:
    """One metric of a kubelet, in the words of one."""
    lines = [
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox",
        "# TYPE kubelet_running_pods gauge",
        "kubelet_running_pods 4",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {STARTED_S:.2f}",
    ]
    return web.Response(text="\n".join([*lines, ""]))


async def serve(host: str, ports: tuple[int, int], files: list[str]) -> None:
    """Serve until killed."""
    certificate, key, ca = files
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    found = []
    for port, path, handler, tls in (
        (ports[0], "/{any:.*}", page, None),
        (ports[1], "/metrics", metrics, context),
    ):
        app = web.Application()
        app.router.add_get(path, handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        found.append(str(runner.addresses[0][1]))
    sys.stdout.write(" ".join(found) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    _host, _page, _kubelet, *_files = sys.argv[1:]
    asyncio.run(serve(_host, (int(_page), int(_kubelet)), _files))
