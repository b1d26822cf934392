"""Which path leads to which kept thing: one spelling of each id, and nothing that could be read in two ways."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import KEPT
from securellm.gateway.model import Request
from securellm.ingress import kept, listings, routes
from securellm.ingress.kept import PATHS, KeptPlace
from securellm.ingress.query import Query
from securellm.providers import ERRANDS

NOTHING = Query.parse("")


def place_of(path: str) -> KeptPlace:
    place = kept.find(path)
    assert place is not None, path
    return place


def asked(path: str, method: str = "GET", body: bytes = b"", query: str = "") -> Request:
    return place_of(path).asked(method, body, {}, Query.parse(query), max_depth=64)


def refusal_of(path: str, method: str = "GET", body: bytes = b"", query: str = "") -> Refusal:
    with pytest.raises(Refusal) as refused:
        asked(path, method, body, query)
    return refused.value


def test_every_path_leads_to_itself_with_the_ids_it_names() -> None:
    for template, rows in PATHS.items():
        names = re.findall(r"{(\w+)}", template)
        found = place_of(template.replace("{", "").replace("}", ""))
        assert found.rows is rows
        assert found.names == tuple(names)
        assert found.methods == tuple(rows)
        assert {row.errand.surface for row in rows.values()} == {found.surface}
        assert found.surface in KEPT
        for method, row in rows.items():
            assert row.errand.method == method
            assert row.errand.path.count("{id}") == len(names)
        assert routes.find(template) is None
        assert listings.find(template) is None
        for nearly in (f"/{template}", template.upper(), template.replace("/v1/", "/v1//")):
            assert nearly == template or kept.find(nearly) is None


def test_every_errand_has_a_path() -> None:
    assert {row.errand.name for rows in PATHS.values() for row in rows.values()} == set(ERRANDS)
    for name, errand in ERRANDS.items():
        assert errand.name == name
        assert name.partition(".")[0] == errand.surface.value
        assert not (errand.ends and errand.looks)


@pytest.mark.parametrize("name", ["resp_68af", "conv_1", "a", "msg_0-9.x:y~z", "resp_YQ==", "_x", "x" * 256])
def test_ids_of_every_provider_can_stand_in_a_path(name: str) -> None:
    request = asked(f"/v1/responses/{name}")
    assert request.names == request.histories == (name,)
    assert request.errand is ERRANDS["stored_responses.get"]
    assert (request.model, request.stream, request.leaves) == ("", False, ())


@given(st.text(max_size=12) | st.sampled_from(["", ".", "..", "%2e%2e", "a%2Fb", "-a", "~a", "=a", "a b", "x" * 257]))
def test_whatever_else_stands_there_is_not_found(name: str) -> None:
    place = kept.find(f"/v1/responses/{name}")
    if place is None:
        assert "/" in name or "\n" in name
    elif re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._:=~-]*", name, re.ASCII) is None or len(name) > 256:
        assert refusal_of(f"/v1/responses/{name}").code is Code.NOT_FOUND


def test_only_names_and_numbers_travel_on_in_the_query() -> None:
    path = "/v1/responses/a/input_items"
    for query in ("", "limit=5&order=asc", "after=msg_1", "include%5B%5D=a.b&include%5B%5D=c", "other=%F0%9F%92%A9"):
        assert asked(path, query=query).names == ("a",)
    for query in ("limit=a%20b", "after=%2e%2e%2f", "order=x%0Ay", "include%5B%5D=a&include%5B%5D=%00"):
        assert refusal_of(path, query=query).code is Code.INVALID_REQUEST
    assert refusal_of("/v1/responses/a", query="stream=true").param == "stream"


def test_a_body_is_taken_where_one_belongs_and_nowhere_else() -> None:
    assert asked("/v1/responses/a", body=b" {}\n").document.text == "{}"
    for method, path in (
        ("GET", "/v1/responses/a"),
        ("DELETE", "/v1/conversations/a"),
        ("POST", "/v1/responses/a/cancel"),
    ):
        assert refusal_of(path, method, b'{"a": 1}').code is Code.INVALID_REQUEST
    body = b'{"items": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "hello"}]}'
    request = asked("/v1/conversations/c/items", "POST", body)
    assert request.histories == ("c", "msg_1")
    assert [leaf.text for leaf in request.leaves if leaf.text == "hello"] == ["hello"]
    assert refusal_of("/v1/conversations", "POST", b'{"items": 5}').param == "items"
    assert refusal_of("/v1/conversations", "POST", b"").code is Code.MALFORMED_JSON
