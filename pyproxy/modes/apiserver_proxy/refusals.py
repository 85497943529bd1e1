"""Why requests end at us, in an apiserver's words where it has any."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyproxy.discovery.targets import Refused

if TYPE_CHECKING:
    from pyproxy.modes.apiserver_proxy.policy import Access

UNAUTHORIZED = Refused(401, "Unauthorized", "Unauthorized")
NO_SUCH_PATH = Refused(
    404, "NotFound", "the server could not find the requested resource"
)
NO_SUCH_METHOD = Refused(
    405,
    "MethodNotAllowed",
    "the server does not allow this method on the requested resource",
)
ACROSS_SITES = Refused(
    403,
    "Forbidden",
    "a page of another site sends this in the name of whoever looks at it",
)


class RefusalError(Exception):
    """The request ends here."""

    def __init__(
        self,
        refused: Refused,
        details: Mapping[str, object] | None = None,
        *,
        holds: bool = False,
        nosniff: bool = False,
    ) -> None:
        super().__init__(refused.message)
        self.refused = refused
        self.details = details
        self.holds = holds  # as long as the answers that it comes of
        self.nosniff = nosniff


_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def forbidden(access: "Access", reason: str) -> str:
    """Say what a user may not do. Source: apiserver, responsewriters.Forbidden."""
    resource = access.resource
    if access.subresource:
        resource += f"/{access.subresource}"
    what = f'cannot {access.verb} resource "{resource}" in API group "{access.group}"'
    where = "at the cluster scope"
    if access.namespace:
        where = f'in the namespace "{access.namespace}"'
    said = f'User "{access.user.name}" {what} {where}'.translate(_HTML)
    kind = access.resource + (f".{access.group}" if access.group else "")
    because = f": {reason}" if reason else ""
    return f'{kind} "{access.name}" is forbidden: {said}{because}'
