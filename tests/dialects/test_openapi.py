"""The dialects in the OpenAPI document: every route, and every parameter as the providers' documents have it."""

import tomllib
from pathlib import Path

import fakeredis
import pytest

from shared.dialects import PROVIDERS
from shared.dialects.base import Submit
from tests.apibench import ApiBench

TABLE = tomllib.loads(Path(__file__).with_name("parameters.toml").read_text())
PAGES = Path(__file__).parents[2] / "docs" / "dialects"
TITLES = {dialect.manual.title for dialect in PROVIDERS.values()}
ROWS = [
    (title, path, field, row)
    for title, paths in TABLE["operations"].items()
    for field, row in TABLE[title].items()
    for path in row.get("at", paths)
]
JSON_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("api"))
    yield made
    made.parts.hub.close()


@pytest.fixture(scope="module")
def document(bench):
    return bench.client.get("/openapi.json").json


@pytest.fixture(scope="module")
def page(bench):
    return bench.client.get("/docs").text


@pytest.fixture(scope="module")
def body(document):
    def find(path):
        (content, *others) = document["paths"][path]["post"]["requestBody"]["content"].values()
        assert all(other == content for other in others)
        return document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]

    return find


def routes():
    return [(dialect, route) for dialect in PROVIDERS.values() for route in dialect.routes]


def spelled(path):
    return path.replace("<", "{").replace(">", "}")


def kinds(schema):
    """Return JSON's types that a schema takes, without null."""
    if schema.get("format") == "binary":
        return {"file"}
    if "anyOf" in schema:
        return set().union(*map(kinds, schema["anyOf"]))
    if "type" in schema:
        return {schema["type"]} - {"null"} if isinstance(schema["type"], str) else set(schema["type"]) - {"null"}
    words = schema.get("enum", [schema.get("const")])
    return {JSON_NAMES[type(word)] for word in words if word is not None}


def test_every_table_belongs_to_a_dialect():
    assert set(TABLE) - {"words", "operations"} == set(TABLE["operations"]) == TITLES


@pytest.mark.parametrize(("dialect", "route"), routes(), ids=lambda each: getattr(each, "path", ""))
def test_every_route_is_there(document, dialect, route):
    for method in route.methods:
        operation = document["paths"][spelled(route.path)][method.lower()]
        assert operation["tags"] == [dialect.manual.title]
        assert operation["summary"]
        statuses = set(operation["responses"])
        if dialect.name == "aithriving":  # its code is in the body
            assert statuses == {"200"}
        elif not route.page.public:
            assert "429" in statuses
            assert statuses & {"400", "401"}
        if isinstance(route, Submit):
            assert operation["requestBody"]["content"]
            assert "Darkroom-Ignored" in next(iter(operation["responses"].values()))["headers"]
        assert bool(operation["security"]) != route.page.public


@pytest.mark.parametrize("title", sorted(TITLES))
def test_no_parameter_is_missing_from_the_table_or_the_dialects_page(title):
    (dialect,) = (each for each in PROVIDERS.values() if each.manual.title == title)
    known = {name for route in dialect.routes if isinstance(route, Submit) for name in route.schema["properties"]}
    page = (PAGES / f"{dialect.name}.md").read_text()

    assert known == set(TABLE[title])
    assert [name for name in known if f"`{name}`" not in page] == []


@pytest.mark.parametrize(("title", "path", "field", "row"), ROWS, ids=lambda each: str(each)[:60])
def test_every_parameter_is_as_the_table_has_it(body, title, path, field, row):
    schema = body(path)
    shown = schema["properties"][field]

    assert row["type"] in kinds(shown)
    required = row.get("required", False) or path in row.get("required_at", ())
    assert (field in schema["required"]) == required
    first = shown.get("anyOf", [shown])[0]
    assert first.get("default") == row.get("default")
    if "range" in row:
        assert [first["minimum"], first["maximum"]] == row["range"]
    if "above" in row:
        assert (first["exclusiveMinimum"], first["maximum"]) == (row["above"], row["most"])
    if "length" in row:
        assert [first["minLength"], first["maxLength"]] == row["length"]
    assert first.get("multipleOf", 1) == row.get("multiple", 1)
    if "words" in row:
        words = TABLE["words"][row["words"][1:]] if isinstance(row["words"], str) else row["words"]
        assert {word for word in shown["enum"] if word is not None and not isinstance(word, bool)} == set(words)


@pytest.mark.parametrize("title", sorted(TITLES))
def test_the_page_shows_every_dialect_readably(page, title):
    assert f"<h2>{title}</h2>" in page
    for path in TABLE["operations"][title]:
        assert path in page
    for field in TABLE[title]:
        assert f"<code>{field}</code>" in page


def test_operations_that_are_alike_are_shown_once(page):
    assert page.count("<code>lora_strength</code>") == 4  # one for each kind, not for each path
    assert "Also at" in page
