"""Kubeconfig files: what is read, what is refused, and how files merge.

Expectations: facts A5; client-go's TestMergeSemantics, TestConflictingCurrentContext,
TestResolveRelativePaths, TestDuplicate*Name, TestToleratingMissingFiles; and the real
kubectl, asked with `config view`.
"""

import base64
import json
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyproxy.kube.config.errors import AccessError
from pyproxy.kube.config.kubeconfig import decode, load_files
from tests.fakes.kubectl import Document, ask, environment, one_context, write

pytestmark = pytest.mark.live


def files(directory: Path, *documents: Document) -> dict[str, str]:
    """Write kubeconfigs and return the environment that names them in order."""
    written = [write(directory / f"{n}.yaml", d) for n, d in enumerate(documents)]
    return environment(directory, KUBECONFIG=os.pathsep.join(map(str, written)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("12:30", "12:30", id="no number of base 60"),
        pytest.param("2024-01-31", "2024-01-31", id="no date"),
        pytest.param("1.2.3", "1.2.3", id="no float"),
        pytest.param("'5'", "5", id="quoted"),
        pytest.param("~", "", id="null is absent"),
        pytest.param("x # comment", "x", id="comment"),
        pytest.param("=", "=", id="no value tag"),
    ],
)
def test_plain_scalar_is_read_as_kubectl_reads_it(text: str, name: str) -> None:
    # Each was given to kubectl 1.37 config view; PyYAML's own rules differ.
    assert decode(f"current-context: {text}\n".encode(), "/").current_context == name


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n\n", id="blank"),
        pytest.param(b"# nothing\n", id="comment"),
        pytest.param(b"---\nkind: Config\napiVersion: v1\n---\nfoo: bar\n", id="first"),
        pytest.param(b"clusters:\nusers: null\n", id="nulls"),
        pytest.param(b"preferences: {a: 1}\nnews: [1, 2]\n", id="unknown fields"),
        pytest.param(b'{"kind": "Config",}', id="almost JSON"),
    ],
)
def test_file_without_entries_is_an_empty_config(raw: bytes) -> None:
    assert decode(raw, "/") == decode(b"{}", "/")


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"garbage", "expected a mapping, got str"),
        (b"- a", "expected a mapping, got a list"),
        (b"clusters: [\n", "yaml: line 2: did not find expected node content"),
        (b"\t\n", "yaml: line 1: found character that cannot start any token"),
        (b"a: \x00", "yaml: not readable (ReaderError)"),
        (b"{" * 9999, "yaml: "),
        (b"kind: Foo", 'no kind "Foo" is registered for version "v1"'),
        (b"apiVersion: v2", 'no kind "Config" is registered for version "v2"'),
        (b"clusters: foo", "Expected array, got str - at $.clusters"),
        (b"users: [{name: 1}]", "Expected str, got int - at $.users[0].name"),
        (
            b"clusters: [{cluster: {insecure-skip-tls-verify: 'true'}}]",
            "Expected bool, got str",
        ),
        (b"users: [{user: {client-key-data: '!!'}}]", "Illegal base64 data"),
        (b"users: [{user: {client-key-data: 5}}]", "Expected base64 text"),
        (b"clusters: [{name: c}, {name: c}]", 'duplicate name "c" in list of clusters'),
        (b"users: [{name: c}, {name: c}]", 'duplicate name "c" in list of users'),
        (b"contexts: [{name: c}, {name: c}]", 'duplicate name "c" in list of contexts'),
        (
            b"clusters: [{cluster: {extensions: [{name: e}, {name: e}]}}]",
            'duplicate name "e" in list of extensions',
        ),
    ],
)
def test_rubbish_is_refused_with_its_place(raw: bytes, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        decode(raw, "/")
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    "value",
    ["*hunter2", "!hunter2", "{hunter2: [", "'hunter2", "hunter2: hunter2", "5"],
)
def test_secret_in_rubbish_is_never_quoted(value: str) -> None:
    # kubectl prints whole entries, tokens and all, when a name is there twice.
    raw = f"users: [{{name: u, user: {{password: {value}}}}}, {{name: u}}]"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        decode(raw.encode(), "/")
    assert "hunter2" not in str(caught.value)


def test_repr_of_an_entry_has_no_values() -> None:
    raw = b"users: [{name: u, user: {token: hunter2, client-key-data: aHVudGVyMg==}}]"
    config = decode(raw, "/")
    assert config.users["u"].client_key_data == b"hunter2"
    assert "hunter2" not in repr(config)


def test_folded_base64_is_read() -> None:
    raw = (
        b"users:\n- name: u\n  user:\n    client-key-data: |\n     aHVu\n     dGVyMg=="
    )
    assert decode(raw, "/").users["u"].client_key_data == b"hunter2"


def test_relative_path_belongs_to_the_directory_of_its_file(tmp_path: Path) -> None:
    user = {
        "client-certificate": "crt",
        "client-key": "../key",
        "tokenFile": "/abs/./token",
        "exec": {"command": "./bin/login"},
    }
    document = one_context({"certificate-authority": "sub/ca"}, user)
    write(tmp_path / "dir" / "config", document)
    config, _ = load_files(str(tmp_path / "dir" / "config"), {})
    assert config.clusters["c"].certificate_authority == f"{tmp_path}/dir/sub/ca"
    read = config.users["u"]
    assert read.client_certificate == f"{tmp_path}/dir/crt"
    assert read.client_key == f"{tmp_path}/key"
    assert read.token_file == "/abs/./token"
    assert read.exec is not None
    assert read.exec.command == f"{tmp_path}/dir/bin/login"


def test_relative_kubeconfig_resolves_against_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "config", one_context({"certificate-authority": "ca"}, {}))
    monkeypatch.chdir(tmp_path)
    config, _ = load_files("config", {})
    assert config.clusters["c"].certificate_authority == f"{tmp_path}/ca"


def test_command_without_a_slash_is_left_to_path() -> None:
    raw = b"users: [{name: u, user: {exec: {command: login}}}]"
    found = decode(raw, "/dir").users["u"].exec
    assert found is not None
    assert found.command == "login"


@pytest.mark.parametrize(
    ("version", "mode"),
    [("v1", ""), ("v1beta1", "IfAvailable"), ("v1alpha1", "IfAvailable")],
)
def test_interactive_mode_has_a_default_in_old_versions_only(
    version: str, mode: str
) -> None:
    spec = {"command": "x", "apiVersion": f"client.authentication.k8s.io/{version}"}
    raw = json.dumps(one_context({}, {"exec": spec})).encode()
    found = decode(raw, "/").users["u"].exec
    assert found is not None
    assert found.interactive_mode == mode


def test_first_file_wins_an_entry_whole(tmp_path: Path) -> None:
    env = files(
        tmp_path,
        {"users": [{"name": "red", "user": {"username": "first"}}]},
        {
            "users": [
                {"name": "red", "user": {"username": "second", "password": "p"}},
                {"name": "blue", "user": {"token": "t"}},
            ],
        },
    )
    config, _ = load_files("", env)
    assert config.users["red"].username == "first"
    assert config.users["red"].password == ""
    assert config.users["blue"].token == "t"


def test_first_file_that_sets_it_wins_current_context(tmp_path: Path) -> None:
    env = files(
        tmp_path,
        {"current-context": ""},
        {"current-context": "a"},
        {"current-context": "b"},
    )
    assert load_files("", env)[0].current_context == "a"


def test_missing_files_are_skipped_and_named_if_all_are_missing(tmp_path: Path) -> None:
    there = write(tmp_path / "there", {"current-context": "a"})
    gone = str(tmp_path / "gone")
    listed = os.pathsep.join([gone, "", str(there), gone])
    assert load_files("", {"KUBECONFIG": listed}) == (load_files(str(there), {})[0], [])
    config, warnings = load_files("", {"KUBECONFIG": f"{gone}:{gone}:/also/gone"})
    assert config.contexts == {}
    assert warnings == [f"Config not found: {gone}, /also/gone"]
    assert load_files("", {"HOME": str(tmp_path)})[1] == []


def test_explicit_file_must_exist_and_is_read_alone(tmp_path: Path) -> None:
    env = files(tmp_path, {"current-context": "other"})
    with pytest.raises(AccessError) as caught:
        load_files("/gone", env)
    assert caught.value.text == "error: stat /gone: no such file or directory"
    alone = write(tmp_path / "alone", {})
    assert load_files(str(alone), env)[0].current_context == ""


def test_without_kubeconfig_home_is_read(tmp_path: Path) -> None:
    write(tmp_path / ".kube" / "config", {"current-context": "home"})
    assert load_files("", {"HOME": str(tmp_path)})[0].current_context == "home"
    env = {"HOME": str(tmp_path), "KUBECONFIG": ""}
    assert load_files("", env)[0].current_context == "home"


def test_every_bad_file_is_named_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("- rubbish")
    with pytest.raises(AccessError) as caught:
        load_files("", {"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/b:{tmp_path}"})
    why = "expected a mapping, got a list"
    assert caught.value.text.splitlines() == [
        f'error loading config file "{tmp_path}/a": {why}',
        f'error loading config file "{tmp_path}/b": {why}',
        f'error loading config file "{tmp_path}": read {tmp_path}: is a directory',
    ]


def test_huge_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as stream:
        stream.truncate((16 << 20) + 1)
    with pytest.raises(AccessError, match="larger than 16 MiB"):
        load_files(str(file), {})


# ------------------------------------------------------------------ kubectl as oracle


class MadeUp:
    """Kubeconfigs with a few of a few names, and files beside them."""

    def __init__(self, dice: random.Random, directory: Path) -> None:
        self.dice, self.directory, self.tag = dice, directory, directory.name
        directory.mkdir()
        for name in ("ca", "crt", "key"):
            (directory / name).write_text(f"{name} of {self.tag}")

    def either(self, name: str, path: str) -> Document:
        """A file, its content, or neither."""
        data = base64.b64encode(f"{name} data of {self.tag}".encode()).decode()
        return self.dice.choice([{}, {name: path}, {f"{name}-data": data}])

    def some(self, **fields: object) -> Document:
        """A few of these, as YAML calls them."""
        return {
            name.replace("_", "-"): value
            for name, value in fields.items()
            if self.dice.random() < 0.4
        }

    def cluster(self, name: str, shared: Document) -> Document:
        """An entry for a server of its own."""
        ca = self.dice.choice(["ca", f"../{self.tag}/ca"])
        more = self.either("certificate-authority", ca)
        server = {"server": f"https://{name}-{self.tag}"}
        return {"name": name, "cluster": {**server, **shared, **more}}

    def user(self, name: str, shared: Document) -> Document:
        """An entry with or without a certificate."""
        certificate = self.either("client-certificate", "crt")
        key = self.either("client-key", f"{self.directory}/key")
        return {"name": name, "user": {**shared, **certificate, **key}}

    def context(self, name: str) -> Document:
        """An entry for names that there may be."""
        cluster, user = self.dice.choice("abc"), self.dice.choice("abc")
        return {"name": name, "context": {"cluster": cluster, "user": user}}

    def document(self) -> Document:
        """All of it."""
        cluster = self.some(
            tls_server_name=f"name-{self.tag}",
            insecure_skip_tls_verify=True,
            proxy_url=f"http://proxy-{self.tag}",
            disable_compression=True,
        )
        acting = {"as": "me", "as-groups": ["g1", "g2"], "as-user-extra": {"K": ["v"]}}
        user = self.some(
            token=f"token-{self.tag}",
            username=f"user-{self.tag}",
            password="p",
            **acting,
        )
        names = self.dice.sample(["a", "b", "c"], self.dice.randint(1, 3))
        current = {"current-context": self.dice.choice(names)}
        return {
            "clusters": [self.cluster(name, cluster) for name in names],
            "users": [self.user(name, user) for name in names],
            "contexts": [self.context(name) for name in names],
            **(current if self.dice.random() < 0.7 else {}),
        }


def flattened(entry: msgspec.Struct) -> Document:
    """Return what is set in an entry, files as data, as `--flatten` shows it."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(entry):
        value = getattr(entry, field.name)
        if value == field.default or value in (None, (), {}, "", False):
            continue
        name = field.encode_name
        if name in ("certificate-authority", "client-certificate", "client-key"):
            name, value = f"{name}-data", Path(value).read_bytes()
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        fields[name] = list(value) if isinstance(value, tuple) else value
    return json.loads(msgspec.json.encode(fields))  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(8))
def test_merged_view_of_made_up_files_is_kubectls(tmp_path: Path, seed: int) -> None:
    # Oracle: kubectl config view, for several files with overlapping names.
    dice = random.Random(seed)
    documents = [MadeUp(dice, tmp_path / f"d{n}").document() for n in range(3)]
    written = [write(tmp_path / f"d{n}" / "config", d) for n, d in enumerate(documents)]
    listed = [*map(str, written), str(tmp_path / "gone"), str(written[0])]
    env = environment(tmp_path, KUBECONFIG=os.pathsep.join(listed))
    config, _ = load_files("", env)
    # kubectl shows no context that points at nothing.
    whole = [
        name
        for name, context in config.contexts.items()
        if context.cluster in config.clusters and context.user in config.users
    ]
    name = dice.choice(whole)
    view = ("config", "view", "--raw", "--flatten", "--minify", "-o", "json")
    code, out, err = ask(*view, "--context", name, env=env)
    assert code == 0, err
    seen = json.loads(out)
    context = config.contexts[name]
    assert seen["contexts"] == [
        {"name": name, "context": {"cluster": context.cluster, "user": context.user}}
    ]
    for kind, entries, entry in (
        ("cluster", config.clusters, context.cluster),
        ("user", config.users, context.user),
    ):
        theirs = {each["name"]: each[kind] for each in seen[f"{kind}s"] or []}
        assert {n: flattened(entries[n]) for n in entries if n == entry} == theirs
    # Without a flag, the current context is the one.
    code, out, _ = ask("config", "current-context", env=env)
    assert (config.current_context, code) == (out.strip(), 0 if out else 1)
