"""`python -m tests.fakes.reviewer PORT CERTIFICATE KEY CA`: an apiserver with moods.

The sandbox's, empty, which counts the reviews that it is asked for, and knows a user
for every number: `user-7-token` is that of user-7, in the group `users`. `/fake` tells
what was counted, and takes a mood:

    {"slow_s": 2.0}         reviews are answered so late
    {"redirect": URL}       and so with a redirect
    {"status": 500}         or so
    {"revoked": [TOKEN]}    these are nobody's
    {"gone": true}          the process ends at once
"""

import asyncio
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from pyproxy.sandbox.apiserver import Apiserver
from pyproxy.sandbox.apiserver.identity import TOKENS, Identities, Identity
from pyproxy.sandbox.certificates import Pair

USERS = "users"
REVIEWS = ("tokenreviews", "subjectaccessreviews")
PATH = "/fake"
_USER = re.compile(r"(user-\d+)-token")


class Crowd(Identities):
    """The usual tokens, and one for every number."""

    revoked: frozenset[str] = frozenset()

    def of_token(self, token: str) -> Identity | None:
        """Whose token this is."""
        if token in self.revoked:
            return None
        found = _USER.fullmatch(token)
        if found is None:
            return super().of_token(token)
        return Identity(found[1], "", (USERS, "system:authenticated"))


class Reviewer(Apiserver):
    """The server; its moods are those of reviews alone."""

    def __init__(self, pair: Pair, ca: Path, port: int = 0) -> None:
        super().__init__(pair, ca, port=port, is_populated=False)
        self._crowd = self.cluster.identities = Crowd(TOKENS)
        self._counts: Counter[str] = Counter()
        self._mood: dict[str, Any] = {}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        what = request.path.rpartition("/")[2]
        if request.path == PATH:
            return await self._control(request)
        self._counts[what] += 1
        if what not in REVIEWS:
            return await super()._handle(request)
        mood = self._mood
        await asyncio.sleep(mood.get("slow_s", 0.0))
        if "redirect" in mood:
            where = {"Location": f"{mood['redirect']}/{what}"}
            return web.Response(status=307, headers=where)
        if "status" in mood:
            return web.Response(status=mood["status"], text="in a bad mood")
        return await super()._handle(request)

    async def _control(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            self._mood = await request.json()
            if self._mood.get("gone"):
                os._exit(0)
            self._crowd.revoked = frozenset(self._mood.get("revoked", ()))
        said = {name: self._counts[name] for name in (*REVIEWS, *self._counts)}
        return web.Response(text=json.dumps(said), content_type="application/json")


async def serve(port: int, pair: Pair, ca: Path) -> None:
    """Serve until killed."""
    async with Reviewer(pair, ca, port) as apiserver:
        sys.stdout.write(f"{apiserver.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _port, *_files = sys.argv[1:]
    _certificate, _key, _ca = map(Path, _files)
    asyncio.run(serve(int(_port), Pair(_certificate, _key), _ca))
