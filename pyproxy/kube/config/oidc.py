"""The auth-provider oidc: an ID token, and a refresh token to get the next one with.

Deprecated, and the one built-in login that client-go still has. Issuers may give a
refresh token for one use only, so the new pair is written back to the kubeconfig, where
kubectl finds it. The official Python client refreshes without verifying the issuer's
certificate, hence this.
"""

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import msgspec

from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.credentials import Identity
from pyproxy.kube.config.errors import CredentialsError, neutral
from pyproxy.kube.config.files import read
from pyproxy.kube.config.headers import basic, bearer
from pyproxy.kube.config.pause import Pause
from pyproxy.pem import roots
from pyproxy.tls import new_client_context

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger(__name__)

LEEWAY_S = 10.0  # clocks of others differ
TIMEOUT_S = 30.0
MAX_BODY_BYTES = 1 << 20

Config = Mapping[str, str]


class _Claims(msgspec.Struct):
    exp: float | str = 0.0  # Go reads a number in quotes, too


class _Metadata(msgspec.Struct):
    token_endpoint: str = ""


class _Tokens(msgspec.Struct):
    id_token: str = ""
    refresh_token: str = ""


class Oidc:
    """A user of an OpenID Connect issuer."""

    refreshable = False  # a 401 says nothing that the expiry did not

    def __init__(
        self, config: Config, save: Callable[[Config], None], clock: Clock
    ) -> None:
        """Raise ValueError in client-go's words."""
        for name in ("idp-issuer-url", "client-id"):
            if not config.get(name):
                raise ValueError(f"Must provide {name}")
        self._config = dict(config)
        self._save = save
        self._clock = clock
        self._trust = _trust(config)
        self._expires_at = 0.0
        self._pause = Pause(clock)
        self._one_at_a_time = asyncio.Lock()
        self.identity = Identity()
        if config.get("id-token"):
            self._take(config["id-token"])

    async def refresh(self) -> None:
        """Ask the issuer if the token has expired. Raise CredentialsError."""
        async with self._one_at_a_time:
            if self._pause.holds() or self.fresh_for_s():
                return
            if not self._config.get("refresh-token"):
                raise CredentialsError(
                    "No valid id-token, and cannot refresh without refresh-token"
                )
            try:
                tokens = await self._refresh()
            except CredentialsError as error:
                self._pause.begin(error.why)
                raise
            self._pause.begin()
            self._keep(tokens)

    async def _refresh(self) -> _Tokens:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                tokens = await self._ask()
            self._take(tokens.id_token)
        except TimeoutError:
            why = f"failed to refresh token: no answer within {TIMEOUT_S:g} s"
            raise CredentialsError(why) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = f"failed to refresh token: {neutral(str(error))[:200]}"
            raise CredentialsError(why) from None
        return tokens

    def fresh_for_s(self) -> float:
        """Until the token expires, less a leeway."""
        left_s = self._expires_at - LEEWAY_S - self._clock.wall()
        return max(left_s, self._pause.serves_s())

    def reject(self) -> bool:
        """There is nothing else to show."""
        return False

    def poll(self) -> None:
        """Nothing to look at: the kubeconfig is watched anyway."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def _take(self, token: str) -> None:
        self._expires_at = _expiry(token)
        self.identity = Identity(bearer(token))

    def _keep(self, tokens: _Tokens) -> None:
        self._config["id-token"] = tokens.id_token
        self._config["refresh-token"] = (
            tokens.refresh_token or self._config["refresh-token"]
        )
        logger.info("token refreshed", extra={"issuer": self._config["idp-issuer-url"]})
        try:
            self._save(self._config)
        except (OSError, ValueError) as error:
            # It serves us as long as we run.
            extra = {"why": str(error)}
            logger.warning("new tokens not written to the kubeconfig", extra=extra)

    async def _ask(self) -> _Tokens:
        issuer = self._config["idp-issuer-url"].removesuffix("/")
        connector = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector, trust_env=True
        ) as session:
            url = f"{issuer}/.well-known/openid-configuration"
            async with session.get(url) as answer:
                metadata = await _read(answer, _Metadata)
            if not metadata.token_endpoint:
                raise ValueError("discovery object doesn't contain a token_endpoint")
            return await self._exchange(session, metadata.token_endpoint)

    async def _exchange(self, session: aiohttp.ClientSession, url: str) -> _Tokens:
        client = self._config["client-id"], self._config.get("client-secret", "")
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": self._config["refresh-token"],
        }
        # RFC 6749 2.3.1: as a header, quoted; some issuers want it in the body only.
        header = basic(*(quote(each, safe="") for each in client))
        async with session.post(
            url, data=fields, headers={"Authorization": header}
        ) as answer:
            if answer.status == 200:
                return _checked(await _read(answer, _Tokens))
        fields |= {"client_id": client[0], "client_secret": client[1]}
        async with session.post(url, data=fields) as answer:
            return _checked(await _read(answer, _Tokens))


async def _read(answer: aiohttp.ClientResponse, kind: Any) -> Any:
    if answer.status != 200:
        raise ValueError(f"the issuer answered {answer.status}")
    body = await answer.content.read(MAX_BODY_BYTES)
    while len(body) < MAX_BODY_BYTES and (
        more := await answer.content.read(MAX_BODY_BYTES - len(body))
    ):
        body += more
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        # As in Go, null is the same as absent.
        return msgspec.convert({k: v for k, v in fields.items() if v is not None}, kind)
    except msgspec.DecodeError:
        raise ValueError("the issuer's answer is not what it should be") from None


def _checked(tokens: _Tokens) -> _Tokens:
    if not tokens.id_token:
        raise ValueError(
            "token response did not contain an id_token, either the scope"
            " \"openid\" wasn't requested upon login, or the provider doesn't support"
            " id_tokens as part of the refresh response"
        )
    return tokens


def _expiry(token: str) -> float:
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("ID Token is not a valid JWT")
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims)
        exp = claims.exp
        return msgspec.json.decode(exp, type=float) if isinstance(exp, str) else exp
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise ValueError("ID Token is not a valid JWT") from None


def _trust(config: Config) -> "ssl.SSLContext":
    context = new_client_context()
    data = config.get("idp-certificate-authority-data")
    file = config.get("idp-certificate-authority")
    if not data and not file:
        context.load_default_certs()
        return context
    try:
        if data:
            folded = data.replace("\n", "").replace("\r", "")
            raw = base64.b64decode(folded, validate=True)
        else:
            raw = read(os.path.expanduser(file or ""))
        context.load_verify_locations(cadata=roots(raw).pem.decode("ascii"))
    except ValueError as error:  # binascii's is
        raise ValueError(f"idp-certificate-authority: {error}") from None
    return context
