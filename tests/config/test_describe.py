"""The reference page, the example and the schema: they say what the structs say."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from pyproxy.cli import program
from pyproxy.config import convert, effective, expanded
from pyproxy.config.describe import fields_of, structs_in
from pyproxy.config.schema import schema_of
from pyproxy.modes.apiserver_lb import ApiserverLb
from pyproxy.modes.kubectl_proxy import KubectlProxy
from tests.config.test_document import MISTAKES, document
from tools.configuration_page import MODES, PAGE, render

pytestmark = pytest.mark.usefixtures("uvloop_was_used_before")

SYSTEMD = Path(__file__).parents[2] / "docs" / "systemd"
COMMENTED = re.compile(r"^(\s*(?:- )?)#( *\w+:)", re.MULTILINE)
KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def example(mode: str) -> str:
    """What `check --example` prints."""
    result = CliRunner().invoke(program, ["check", f"--example={mode}"])
    assert result.exit_code == 0
    return result.stdout


def test_page_is_what_the_structs_say() -> None:
    # If this fails: python -m tools.configuration_page
    assert PAGE.read_text() == render()


@pytest.mark.parametrize("mode", MODES)
def test_every_field_is_explained(mode: str) -> None:
    silent = [
        f"{struct.__name__}.{field.name}"
        for struct in structs_in(MODES[mode])
        for field in fields_of(struct)
        if not field.text
    ]
    assert silent == []


@pytest.mark.parametrize("mode", MODES)
def test_example_is_accepted_as_it_is_printed(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(example(mode))
    result = CliRunner().invoke(program, ["check", f"--mode={mode}", str(file)])
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("mode", MODES)
def test_example_has_every_field_and_every_default(mode: str) -> None:
    text = example(mode)
    said = convert(yaml.safe_load(text) or {}, MODES[mode])
    whole = COMMENTED.sub(r"\1\2", text)
    assert whole.count("#") < text.count("#")
    assert convert(yaml.safe_load(whole), MODES[mode]) == said
    plain = effective(said)
    assert set(plain) == set(yaml.safe_load(whole))


@pytest.mark.parametrize(
    "words", [[], ["f", "--example=apiserver-lb"], ["--schema=x"], ["--example"]]
)
def test_check_without_a_question_says_what_it_takes(words: list[str]) -> None:
    result = CliRunner().invoke(program, ["check", *words])
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is valid, by the keywords of JSON Schema that we use."""
    known = {
        "$schema", "$defs", "title", "description", "default", "$ref", "anyOf", "enum",
        "type", "properties", "required", "additionalProperties", "items", "minItems",
        "maxItems", "minLength", "maxLength", "minimum", "maximum", "pattern",
        "exclusiveMinimum",
    }  # fmt: skip
    assert set(schema) <= known
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(fits(value, each, root) for each in schema["anyOf"])
    if "enum" in schema:
        return bool(value in schema["enum"])
    if not isinstance(value, KINDS[schema["type"]]):
        return False
    if isinstance(value, bool) and schema["type"] != "boolean":
        return False
    if isinstance(value, dict):
        kinds = schema["properties"]
        whole = set(schema["required"]) <= set(value) <= set(kinds)
        return whole and all(fits(v, kinds[k], root) for k, v in value.items())
    if isinstance(value, list):
        enough = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 999)
        return enough and all(fits(each, schema["items"], root) for each in value)
    if isinstance(value, str):
        length = (
            schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 999)
        )
        return length and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, int | float):
        above = value > schema.get("exclusiveMinimum", float("-inf"))
        least = schema.get("minimum", float("-inf"))
        return bool(above and least <= value <= schema.get("maximum", float("inf")))
    return True


SCHEMA = schema_of(ApiserverLb, "pyproxy apiserver-lb")
# What types and bounds can tell; the rest needs two fields, or an address to be parsed.
TOLD_BY_TYPES = (
    "unknown field|: expected|is none of|must be more|not a duration|missing required"
)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_schema_refuses_mistakes_of_type(raw: dict[str, Any], complaint: str) -> None:
    if re.search(TOLD_BY_TYPES, complaint) and "number as key" not in complaint:
        assert not fits(json.loads(msgspec.json.encode(raw)), SCHEMA, SCHEMA)


def test_schema_takes_what_convert_takes() -> None:
    assert fits(document(), SCHEMA, SCHEMA)
    assert fits(document(listeners=["127.0.0.1:1"]), SCHEMA, SCHEMA)
    assert fits(yaml.safe_load(example("apiserver-lb")), SCHEMA, SCHEMA)
    everything = effective(convert(document(), ApiserverLb))
    assert fits(everything, SCHEMA, SCHEMA)
    assert expanded(everything, ApiserverLb) == everything


@pytest.mark.parametrize("mode", MODES)
def test_schema_is_printed_for_each_mode(mode: str) -> None:
    result = CliRunner().invoke(program, ["check", f"--schema={mode}"])
    printed = json.loads(result.stdout)
    made = schema_of(MODES[mode], f"pyproxy {mode}")
    assert printed == json.loads(json.dumps(made))


def test_schema_takes_every_default_of_kubectl_proxy() -> None:
    schema = schema_of(KubectlProxy, "")
    assert fits(effective(KubectlProxy()), schema, schema)
    assert fits({"keepalive": "-1s"}, schema, schema)
    assert not fits({"client": {"tokn": "x"}}, schema, schema)


def test_file_of_the_unit_is_right_and_fits_its_socket() -> None:
    config = convert(
        yaml.safe_load((SYSTEMD / "apiserver-lb.yaml").read_text()), ApiserverLb
    )
    socket = (SYSTEMD / "pyproxy-apiserver-lb.socket").read_text()
    (address,) = re.findall(r"^ListenStream=(.*)$", socket, re.MULTILINE)
    assert [each.address for each in config.listeners] == [address]


def test_unit_starts_and_reloads_with_its_file() -> None:
    unit = (SYSTEMD / "pyproxy-apiserver-lb.service").read_text()
    settings = dict(line.partition("=")[::2] for line in unit.splitlines())
    _, mode, *flags = shlex.split(settings["ExecStart"])
    assert mode == "apiserver-lb"
    assert flags == ["--config", "/etc/pyproxy/apiserver-lb.yaml"]
    assert "check /etc/pyproxy/apiserver-lb.yaml" in settings["ExecReload"]
    assert "kill -HUP $MAINPID" in settings["ExecReload"]
    runtime = settings["RuntimeDirectory"]
    said = yaml.safe_load((SYSTEMD / "apiserver-lb.yaml").read_text())
    assert said["stateFile"] == f"/run/{runtime}/state.json"
