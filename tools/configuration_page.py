"""docs/configuration.md, made from the structs: `python -m tools.configuration_page`.

A test fails when the page is not what the structs say.
"""

from pathlib import Path

from pyproxy.config import Config
from pyproxy.config.describe import (
    REQUIRED,
    Field,
    fields_of,
    structs_in,
    summary,
    type_words,
)
from pyproxy.config.example import to_line
from pyproxy.modes import apiserver_lb, apiserver_proxy, kube_proxy, kubectl_proxy

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
MODES: dict[str, type[Config]] = {
    apiserver_lb.MODE: apiserver_lb.ApiserverLb,
    apiserver_proxy.MODE: apiserver_proxy.ApiserverProxy,
    kube_proxy.MODE: kube_proxy.KubeProxy,
    kubectl_proxy.MODE: kubectl_proxy.KubectlProxy,
}
HEAD = """\
# The configuration file

Made from the code by `python -m tools.configuration_page`; not to be edited.

`pyproxy MODE --config FILE` reads YAML or JSON; flags win over it. `pyproxy check FILE`
(for all but apiserver-lb with `--mode=MODE`) tells all that is wrong with a file, and
where, and prints what is in force. A KubeProxyConfiguration, as the kube-proxy of
Kubernetes has it, is read by kube-proxy as it is. To start from:

    pyproxy check --example apiserver-lb   # a file with every default as a comment
    pyproxy check --schema apiserver-lb    # a JSON Schema, for editors and pipelines

SIGHUP (`systemctl reload`) reads the file anew. One that is wrong changes nothing; the
log, `/readyz?verbose` and `pyproxy_config_last_reload_successful` say so.

A *duration* is written as in Go, `30s`, `1m30s`, `500ms`, or as a number of seconds; at
most `480h`. Unknown fields and keys that stand twice are mistakes.
"""


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for mode, struct in MODES.items():
        parts.append(f"## {mode}\n\n{summary(struct)}\n\n{_table(struct)}")
    seen = list(MODES.values())
    for struct in MODES.values():
        for each in structs_in(struct):
            if each not in seen:
                seen.append(each)
                parts.append(f"## {each.__name__}\n\n{_about(each)}\n\n{_table(each)}")
    return "\n".join(parts)


def _about(struct: type) -> str:
    short = getattr(struct, "short_form", "")
    also = f" A text alone stands for `{short}`." if short else ""
    return summary(struct) + also


def _table(struct: type) -> str:
    rows = ["| field | type | default | |", "| --- | --- | --- | --- |"]
    rows += [_row(field) for field in fields_of(struct)]
    return "\n".join([*rows, ""])


def _row(field: Field) -> str:
    default = "needed"
    if field.default is not REQUIRED:
        is_plain = field.struct is None or field.is_list
        default = f"`{to_line(field.default)}`" if is_plain else ""
    text = field.text[:1].upper() + field.text[1:]
    words = (f"`{field.name}`", type_words(field.kind), default, text)
    return f"| {' | '.join(word.replace('|', '&#124;') for word in words)} |"


if __name__ == "__main__":
    PAGE.write_text(render())
