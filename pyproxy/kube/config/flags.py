"""The client flags that every command of kubectl inherits, as one value."""

import msgspec


class ClientFlags(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """What was said on the command line. Empty = not said, and the files decide."""

    kubeconfig: str = ""  # read this file alone
    context: str = ""
    cluster: str = ""
    user: str = ""
    namespace: str = ""
    server: str = ""
    token: str = ""
    client_certificate: str = ""
    client_key: str = ""
    certificate_authority: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    as_: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: tuple[str, ...] = ()  # each KEY=VALUE
    username: str = ""
    password: str = ""
    disable_compression: bool = False
    request_timeout: str = "0"

    def __repr__(self) -> str:
        """Name what was said, and no value: some are secret."""
        unsaid = ("", (), False, "0")
        said = [f for f in self.__struct_fields__ if getattr(self, f) not in unsaid]
        return f"<ClientFlags {' '.join(said)}>"
