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
    context: str = ""  # to use instead of the current one
    cluster: str = ""  # to use instead of the context's
    user: str = ""  # to be instead of the context's
    namespace: str = ""  # accepted, as kubectl does; changes nothing
    server: str = ""  # URL of the apiserver
    token: str = ""  # bearer token; shown nowhere
    client_certificate: str = ""  # PEM file: our client certificate
    client_key: str = ""  # PEM file: its key
    certificate_authority: str = ""  # PEM file: CAs for the server's certificate
    insecure_skip_tls_verify: bool = False  # believe any server
    tls_server_name: str = ""  # for SNI and verification; empty = the server's host
    proxy_url: str = ""  # proxy on the way: http, https or socks5 URL
    as_: str = msgspec.field(default="", name="as")  # user to act as
    as_uid: str = ""  # UID to act as
    as_groups: tuple[str, ...] = ()  # groups to act as
    as_user_extra: tuple[str, ...] = ()  # each KEY=VALUE
    username: str = ""  # for basic authentication
    password: str = ""  # likewise; shown nowhere
    disable_compression: bool = False  # accepted, as kubectl does; changes nothing
    request_timeout: str = "0"  # likewise

    def __repr__(self) -> str:
        """Name what was said, and no value: some are secret."""
        unsaid = ("", (), False, "0")
        said = [f for f in self.__struct_fields__ if getattr(self, f) not in unsaid]
        return f"<ClientFlags {' '.join(said)}>"
