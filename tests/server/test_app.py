"""The routes: default deny, whatever the path, the method or the Host says."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge_kit import ASK, CHAT, bearer, get, make_key, post, raw
from trivet.testing.house import house
from trivet.testing.upstream import Upstream

pytestmark = pytest.mark.anyio

PUBLIC = {"/healthz", "/readyz", "/openapi.json"}


async def test_every_route_but_the_public_ones_needs_a_key(tmp_path: Path) -> None:
    """Attack 4: generated from the table, so a new route is in it."""
    key = make_key(tmp_path / "keys", "acme")
    async with Upstream("x") as upstream, house({"a": upstream.base_url}, keys=tmp_path / "keys") as gateway:
        assert {route.path for route in gateway.app.routes if route.auth == "public"} == PUBLIC
        for route in gateway.app.routes:
            path = route.path.replace("{model}", "a")
            refused = await raw(gateway.url, get(path, method=route.method))
            allowed = await raw(gateway.url, get(path, bearer(key), method=route.method))
            assert refused.status == (200 if route.path in PUBLIC else 401), route.path
            assert allowed.status == (400 if route.method == "POST" else 200), route.path
    assert not upstream.requests


async def test_a_path_that_is_no_route_is_a_401_with_keys_and_a_404_without(tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys", "acme")
    async with Upstream("x") as upstream:
        async with house({"a": upstream.base_url}, keys=tmp_path / "keys") as gateway:
            assert (await raw(gateway.url, get("/nowhere"))).status == 401
            found = await raw(gateway.url, get("/nowhere", bearer(key)))
        async with house({"a": upstream.base_url}) as gateway:
            opened = await raw(gateway.url, get("/nowhere"))
    for reply in (found, opened):
        assert reply.status == 404
        assert json.loads(reply.body)["error"]["code"] == "not_found"
        assert "/openapi.json" in json.loads(reply.body)["error"]["message"]


ODD_PATHS = [
    "//v1/models", "/v1//models", "/v1/models/", "/V1/MODELS", "/v1/models.", "/v1/models;x", "/v1/../v1/models",
    "/healthz/../v1/models", "/%2e%2e/v1/models", "/v1%2fmodels", "/v1/%6dodels", "/healthz%2f..%2fv1%2fmodels",
    "/trivet/v1/keys", "/healthz;/v1/models", "/%00", "/healthz%00", "*", "http://x/v1/models", "http://x/nowhere",
    "/v1/models#/healthz", "/v1/models?/healthz", "/metrics?x=/healthz", "//healthz@x/v1/models",
]  # fmt: skip
ODD_HOSTS = [b"x/?a=", b"x#@y", b"127.0.0.1", b"evil.example", b"", b"healthz", b"x/healthz"]


@pytest.mark.parametrize("path", ODD_PATHS)
async def test_however_a_path_is_written_it_is_never_open_without_a_key(path: str, tmp_path: Path) -> None:
    """Attack 3: the decision is about the route that was found, or about none."""
    make_key(tmp_path / "keys", "acme")
    async with house({"a": "http://127.0.0.1:9/v1"}, keys=tmp_path / "keys") as gateway:
        for host in ODD_HOSTS:
            request = b"GET %b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % (path.encode(), host)
            assert (await raw(gateway.url, request)).status in (400, 401), host


async def test_the_host_and_forwarded_headers_decide_nothing(tmp_path: Path) -> None:
    """Attacks 3 and 9: what a peer says about hosts, addresses and schemes is nobody's business here."""
    key = make_key(tmp_path / "keys", "acme")
    said = [
        ("x-forwarded-for", b"127.0.0.1"), ("x-forwarded-host", b"localhost"), ("x-forwarded-proto", b"https"),
        ("x-real-ip", b"127.0.0.1"), ("forwarded", b"for=127.0.0.1;host=localhost"), ("x-original-url", b"/healthz"),
        ("x-rewrite-url", b"/healthz"), ("x-http-method-override", b"GET"),
    ]  # fmt: skip
    async with Upstream("x") as upstream, house({"a": upstream.base_url}, keys=tmp_path / "keys") as gateway:
        assert (await raw(gateway.url, get("/v1/models", *said))).status == 401
        assert (await raw(gateway.url, post(ASK, *said))).status == 401
        assert (await raw(gateway.url, post(ASK, *said, bearer(key)))).status == 200
    sent = upstream.requests[0].headers
    assert not sent.keys() & {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded"}
    assert sent["host"] == upstream.base_url.split("/")[2]


async def test_another_method_is_a_405_that_says_which_there_is() -> None:
    async with house({"a": "http://127.0.0.1:9/v1"}) as gateway:
        for method, path, known in (("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/models", "GET")):
            reply = await raw(gateway.url, get(path, method=method))
            assert (reply.status, reply.headers["allow"]) == (405, known)
            assert known in json.loads(reply.body)["error"]["message"]
        assert gateway.store.entries == []


async def test_head_is_get_without_a_body() -> None:
    async with house({"a": "http://127.0.0.1:9/v1"}) as gateway:
        for path in ("/healthz", "/readyz", "/v1/models", "/metrics", "/openapi.json"):
            head, whole = [await raw(gateway.url, get(path, method=method)) for method in ("HEAD", "GET")]
            assert (head.status, head.body) == (200, b"")
            assert whole.body
        assert (await raw(gateway.url, get("/v1/chat/completions", method="HEAD"))).status == 405


async def test_health_is_open_and_says_what_is_ready(tmp_path: Path) -> None:
    make_key(tmp_path / "keys", "acme")
    async with house({"a": "http://127.0.0.1:9/v1"}, keys=tmp_path / "keys") as gateway:
        alive = await raw(gateway.url, get("/healthz"))
        ready = await raw(gateway.url, get("/readyz"))
    assert json.loads(alive.body) == {"status": "ok"}
    assert json.loads(ready.body) == {"status": "ready", "targets": {"a": "ready"}}


async def test_a_model_that_is_not_there_yet_is_not_ready() -> None:
    slow = '[targets.b]\nprovider = "llamacpp"\nmodel = "smollm2-135m-instruct"\n'
    async with house({}, slow) as gateway:
        reply = await raw(gateway.url, get("/readyz"))
    assert reply.status == 503
    assert json.loads(reply.body)["targets"]["b"] != "ready"


async def test_models_lists_targets_policies_and_aliases() -> None:
    more = '[policies.p]\npool = ["a"]\n[aliases]\n"gpt-4o" = "p"\n'
    async with house({"a": "http://127.0.0.1:9/v1"}, more) as gateway:
        reply = await raw(gateway.url, get("/v1/models"))
    document: Any = json.loads(reply.body)
    assert document["object"] == "list"
    assert {model["id"] for model in document["data"]} == {"a", "p", "gpt-4o"}


async def test_no_answer_says_what_it_runs_on_or_may_be_kept_by_others() -> None:
    """Attack 55: no product name, no version, no stack; and no shared cache may keep an answer."""
    async with Upstream("x") as upstream, house({"a": upstream.base_url}) as gateway:
        replies = [
            await raw(gateway.url, data)
            for data in (
                get("/nowhere"), get("/v1/models"), get("/healthz"), get("/metrics"), post(b"{"), post(ASK),
                get("/v1/models?debug=1&trace=1"), post({**ASK, "debug": True}), b"NOT HTTP\r\n\r\n",
            )
        ]  # fmt: skip
    for reply in replies:
        lowered = reply.raw.lower()
        assert "server" not in reply.headers
        assert "x-powered-by" not in reply.headers
        for word in (b"uvicorn", b"python", b"traceback", b".py", b"httptools"):
            assert word not in lowered
        if reply.status != 400:
            assert reply.headers["cache-control"] == "no-store, private"


async def test_two_tenants_never_share_what_is_kept(tmp_path: Path) -> None:
    """Attack 12: exact prompt, streamed and not, in any order: a miss, and the other's id nowhere."""
    one, other = (make_key(tmp_path / "keys", tenant) for tenant in ("acme", "globex"))
    policy = '[policies.p]\npool = ["a"]\n[policies.p.cache]\nmode = "exact"\n'
    body = {**ASK, "model": "p"}
    async with (
        Upstream("secret of acme") as upstream,
        house({"a": upstream.base_url}, policy, keys=tmp_path / "keys") as gateway,
    ):
        first = await raw(gateway.url, post(body, bearer(one)))
        again = await raw(gateway.url, post(body, bearer(one)))
        probe = await raw(gateway.url, post(body, bearer(other), ("x-trivet-cache", b"only")))
        spoofed = [("x-trivet-customer", b"acme"), ("x-trivet-namespace", b"acme"), ("x-trivet-feature", b"acme")]
        strange = [
            await raw(gateway.url, post(body, bearer(other), ("x-trivet-cache", b"only"), *spoofed)),
            await raw(gateway.url, post({**body, "user": "acme", "stream": True}, bearer(other), *spoofed)),
            await raw(gateway.url, post({**body, "stream": True}, bearer(other))),
        ]
    assert first.headers["x-trivet-cache"] == "miss"
    assert again.headers["x-trivet-cache"].startswith("hit")
    assert [reply.status for reply in (probe, *strange)] == [404, 404, 200, 200]
    assert [reply.headers["x-trivet-cache"] for reply in strange[1:]] == ["miss", "miss"]
    for reply in (probe, *strange):
        assert first.headers["x-trivet-id"].encode() not in reply.raw
    assert {e.tenant for e in gateway.store.entries if e.hit_of} == {"acme"}


async def test_an_exchange_may_follow_another_on_the_same_connection() -> None:
    async with Upstream("x") as upstream, house({"a": upstream.base_url}) as gateway:
        content = json.dumps(ASK).encode()
        one = CHAT + b"content-length: %d\r\n\r\n%b" % (len(content), content)
        reply = await raw(gateway.url, one + one + post(ASK))
    assert reply.answers == 3
    assert len(gateway.store.entries) == 3
