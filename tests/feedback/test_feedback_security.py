"""Who gets in: tokens, cookies, exact Host and Origin, on HTTP and on sockets."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import TOKENS, CountingMachine, Running, event, hello, next_of, send, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from textrl.errors import UserError
from textrl.feedback.server.auth import Tokens, host_names, make_tokens
from textrl.feedback.server.starting import _token_file


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("security"), CountingMachine("rank")) as found:
        yield found


@pytest.fixture
def browser(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.address) as client:
        yield client


def test_the_link_gives_a_cookie_that_scripts_and_other_sites_cannot_use(browser: httpx.Client) -> None:
    answer = browser.get("/login", params={"token": TOKENS.join})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKENS.join not in cookie
    assert browser.get("/api/sessions").json()[0]["session"] == "s"
    assert TOKENS.join not in str(browser.get("/").headers)


def test_a_link_in_a_web_mail_works_although_its_redirect_would_not_carry_the_cookie(
    browser: httpx.Client,
) -> None:
    answer = browser.get(
        "/login", params={"token": TOKENS.join, "session": 'a"><b'}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 200
    assert "url=/?session=a%22%3E%3Cb" in answer.text


@pytest.mark.parametrize(
    "path", ["/", "/api/sessions", "/static/index.html", "/static/../app.py", "/nothing"]
)
def test_without_a_token_there_is_nothing_to_see(browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 401
    assert "Open the link" in answer.text


@pytest.mark.parametrize("token", ["", "wrong", TOKENS.join[:-1], TOKENS.join + "x", "ü" * 20])
def test_a_wrong_token_opens_nothing(browser: httpx.Client, token: str) -> None:
    answer = browser.get("/login", params={"token": token})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert (
        browser.get("/api/sessions", headers={"Authorization": f"Bearer x{token.encode().hex()}"}).status_code
        == 401
    )


@pytest.mark.parametrize(
    "cookie", ["x", "textrl-feedback-{port}=x", "textrl-feedback-{port}=" + TOKENS.join, 'a="\\', "=;=;,"]
)
def test_a_made_up_cookie_opens_nothing(running: Running, browser: httpx.Client, cookie: str) -> None:
    headers = {"Cookie": cookie.format(port=running.server.port)}
    assert browser.get("/api/sessions", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_another_host_is_refused_even_with_the_token(running: Running, host: str) -> None:
    headers = {"Host": host.format(port=running.server.port), "Authorization": f"Bearer {TOKENS.join}"}
    assert httpx.get(f"{running.address}/", headers=headers).status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        open_socket(running, {"Authorization": f"Bearer {TOKENS.join}"}, host=headers["Host"])
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:{port}.evil.example",
     "ftp://127.0.0.1:{port}", "http://localhost:{port}"],
)  # fmt: skip
def test_a_page_of_another_site_opens_no_socket_although_the_browser_has_the_cookie(
    running: Running, browser: httpx.Client, origin: str
) -> None:
    browser.get("/login", params={"token": TOKENS.join})
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    given = {"Cookie": cookie, "Origin": origin.format(port=running.server.port)}
    with pytest.raises(InvalidStatus) as refused:
        open_socket(running, given)
    assert refused.value.response.status_code == 403
    assert browser.get("/api/sessions", headers={"Origin": given["Origin"]}).status_code == 403
    assert open_socket(running, given | {"Origin": running.address}) == "welcome"


def test_a_socket_without_token_or_origin_is_refused(running: Running, browser: httpx.Client) -> None:
    browser.get("/login", params={"token": TOKENS.join})
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for headers, status in (
        ({}, 403),
        ({"Cookie": cookie}, 403),
        ({"Origin": running.address}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {TOKENS.join}"}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            open_socket(running, headers)
        assert refused.value.response.status_code == status


def open_socket(running: Running, headers: dict[str, str], host: str | None = None) -> str:
    """Say hello and return the kind of the answer."""
    url = f"ws://127.0.0.1:{running.server.port}/ws?session=s"
    more: dict[str, Any] = {"additional_headers": headers}
    if host is not None:
        # The client writes the Host header from the address, so the address lies and the connection does not.
        import socket

        more["sock"] = socket.create_connection(("127.0.0.1", running.server.port))
        url = f"ws://{host}/ws?session=s" if host else url.replace("127.0.0.1", "nowhere")
    with connect(url, **more) as found:
        found.send(hello())
        return str(next_of(found, "welcome", "error")["type"])


def test_every_answer_forbids_foreign_scripts_frames_and_guessing(
    running: Running, browser: httpx.Client
) -> None:
    browser.get("/login", params={"token": TOKENS.join})
    for path in ("/", "/api/sessions", "/healthz", "/static/index.html", "/nothing", "/login"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert f"ws://127.0.0.1:{running.server.port}" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_files_outside_the_page_are_not_served(browser: httpx.Client) -> None:
    browser.get("/login", params={"token": TOKENS.join})
    for path in ("/static/..%2fserver%2fauth.py", "/static/%2e%2e/server/auth.py", "/static//etc/passwd"):
        assert browser.get(path).status_code == 404
    assert browser.post("/", content=b"x" * 100).status_code == 405


def test_only_the_owner_sees_agreement_and_has_the_owners_role(running: Running) -> None:
    for token, role in ((TOKENS.owner, "owner"), (TOKENS.join, "annotator")):
        with running.socket(token) as socket:
            socket.send(hello("ada"))
            assert next_of(socket, "welcome")["role"] == role


def test_owners_messages_are_kept_from_others(tmp_path: Path) -> None:
    class Agreeing(CountingMachine):
        def apply(self, event: Any) -> Any:
            found = list(super().apply(event))
            return [*found, {"type": "agreement", "pairwise": 1.0}] if event.kind == "note" else found

    with (
        serving(tmp_path, Agreeing("rank")) as running,
        running.join("boss", token=TOKENS.owner) as owner,
        running.join("ada") as ada,
    ):
        send(ada, event("note", {"text": "x"}))
        assert next_of(owner, "agreement")["pairwise"] == 1.0
        assert next_of(ada, "agreement", "panel")["type"] == "panel"
        send(ada, event("note", {"text": "y"}))
        assert next_of(ada, "agreement", "panel")["note"] == "y"


def test_the_owners_name_alone_shows_no_agreement(tmp_path: Path) -> None:
    class Agreeing(CountingMachine):
        def view(self, annotator: str) -> dict[str, Any]:
            return {**super().view(annotator), "agreement": {"type": "agreement", "pairwise": 1.0}}

    with serving(tmp_path, Agreeing("rank")) as running:
        for token, shown in ((TOKENS.owner, True), (TOKENS.join, False)):
            with running.socket(token) as socket:
                socket.send(hello("boss"))
                assert ("agreement" in next_of(socket, "welcome")["view"]) is shown


def test_tokens_are_kept_for_the_next_start_and_from_other_users(tmp_path: Path) -> None:
    keep = tmp_path / "s.tokens"
    first = make_tokens(keep)
    assert make_tokens(keep) == first
    assert stat.S_IMODE(keep.stat().st_mode) == 0o600
    assert len(first.join) >= 43
    assert first.join != first.owner
    assert make_tokens(keep, "a-token-of-my-own").owner == first.owner
    assert json.loads(keep.read_text())["join"] == "a-token-of-my-own"
    assert os.listdir(tmp_path) == ["s.tokens"]
    keep.write_text("{}")
    with pytest.raises(UserError, match="delete it"):
        make_tokens(keep)


def test_tokens_of_a_database_are_kept_too_and_its_password_stands_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path))
    keep = _token_file("postgresql://ada:secret@db/study")
    assert keep.parent == tmp_path
    first = make_tokens(keep)
    assert make_tokens(_token_file("postgresql://ada:secret@db/study")) == first
    assert make_tokens(_token_file("postgresql://ada:secret@db/other")) != first
    assert not any("secret" in path.name or "secret" in path.read_text() for path in tmp_path.iterdir())
    assert _token_file("study.sqlite") == Path("study.sqlite.tokens")


@pytest.mark.parametrize("token", ["short", "x" * 15, "with a space in it", "ünder-the-sixteen-plus"])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(UserError, match="16 plain characters"):
        Tokens(token, "owner-token-of-the-tests")


def test_host_names_are_exact() -> None:
    assert host_names("127.0.0.1", 8000) == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert host_names("192.0.2.7", 80, ["Lab.example"]) == {"192.0.2.7:80", "lab.example:80", "lab.example"}
    assert "localhost" in host_names("localhost", 80)
    assert "127.0.0.1:9" in host_names("0.0.0.0", 9)
