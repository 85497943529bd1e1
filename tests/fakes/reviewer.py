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
        self._alike: dict[str, bytes] = {}  # what the whole crowd may or may not

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        what = request.path.rpartition("/")[2]
        if request.path == PATH:
            return await self._control(request)
        self._counts[what] += 1
        if what not in REVIEWS:
            if request.method != "GET":
                self._alike.clear()
            return await super()._handle(request)
        mood = self._mood
        await asyncio.sleep(mood.get("slow_s", 0.0))
        if "redirect" in mood:
            where = {"Location": f"{mood['redirect']}/{what}"}
            return web.Response(status=307, headers=where)
        if "status" in mood:
            return web.Response(status=mood["status"], text="in a bad mood")
        return await self._review(request)

    async def _review(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer; for the crowd at a tenth of the cost, or we would be what is slow."""
        spec = (await request.json())["spec"]
        user = self._crowd.of_token(spec.get("token", ""))
        if user is not None and USERS in user.groups:
            said = {"authenticated": True, "user": user.shown()}
            return _created(json.dumps({"kind": "TokenReview", "status": said}))
        if USERS not in spec.get("groups", ()):
            return await super()._handle(request)
        key = json.dumps(spec.get("resourceAttributes"))
        if key not in self._alike:
            answer = await super()._handle(request)
            assert isinstance(answer, web.Response)
            assert isinstance(answer.body, bytes)
            self._alike[key] = answer.body
        return _created(self._alike[key].decode())

    async def _control(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            self._mood = await request.json()
            if self._mood.get("gone"):
                os._exit(0)
            self._crowd.revoked = frozenset(self._mood.get("revoked", ()))
        said = {name: self._counts[name] for name in (*REVIEWS, *self._counts)}
        return web.Response(text=json.dumps(said), content_type="application/json")


def _created(text: str) -> web.Response:
    return web.Response(status=201, text=text, content_type="application/json")


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
