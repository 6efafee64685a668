"""`http_judge` against real servers on this machine: retries, time-outs, the cache, and what it refuses."""

from __future__ import annotations

import itertools
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from judge_world import episodes, judge
from textrl_judges.http_client import shown

from textrl.errors import UserError
from textrl.registry import get_registry
from textrl.rewards import build_rewards
from textrl.testing import check_reward

Reply = tuple[int, dict[str, str], bytes]


class Endpoint:
    """A server whose answers a test decides, and which remembers what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, Any], int], Reply] = lambda body, _: good(body)
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    number = len(outer.bodies)
                status, headers, data = outer.answer(body, number)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    return  # the client gave up waiting

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/score"

    @property
    def items(self) -> list[dict[str, Any]]:
        return [item for body in self.bodies for item in body["items"]]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def good(body: dict[str, Any]) -> Reply:
    scores = [len(item["response"]) + 100 * len(item["prompt"]) for item in body["items"]]
    return 200, {}, json.dumps({"scores": scores}).encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


def ask(endpoint: Endpoint, texts: list[str], **settings: Any) -> list[float]:
    reward = judge("http_judge", url=endpoint.url, **{"backoff_s": 0.01, "timeout_s": 5.0, **settings})
    found: list[float] = reward(episodes(texts)).tolist()
    reward.cache.close()
    return found


def test_scores_come_back_in_order_whatever_the_requests(endpoint: Endpoint) -> None:
    texts = ["a" * length for length in (5, 1, 4, 1, 3, 2, 9, 7)]
    assert ask(endpoint, texts, batch_size=2, workers=3) == [5, 1, 4, 1, 3, 2, 9, 7]
    assert len(endpoint.items) == 7  # "a" twice is asked once
    assert all(len(body["items"]) <= 2 for body in endpoint.bodies)


def test_prompts_and_the_named_columns_are_sent(endpoint: Endpoint) -> None:
    reward = judge("http_judge", url=endpoint.url, columns=["topic"])
    batch = episodes(["yes"], ["Q?"], [{"topic": "cats", "secret": "x"}])
    assert reward(batch).tolist() == [203]
    assert endpoint.items == [{"prompt": "Q?", "response": "yes", "record": {"topic": "cats"}}]
    with pytest.raises(UserError, match=r"has no column 'topic'\. Did you mean 'topics'\?"):
        reward(episodes(["yes"], ["Q?"], [{"topics": "cats"}]))


def test_a_busy_server_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.answer = lambda body, number: (503, {}, b"busy") if number < 3 else good(body)
    assert ask(endpoint, ["abc"], retries=2) == [3]
    assert len(endpoint.bodies) == 3


def test_back_off_doubles_and_retry_after_is_kept(endpoint: Endpoint) -> None:
    times: list[float] = []

    def slow_start(body: dict[str, Any], number: int) -> Reply:
        times.append(time.monotonic())
        return (429, {"Retry-After": "0.3"} if number == 3 else {}, b"") if number < 4 else good(body)

    endpoint.answer = slow_start
    assert ask(endpoint, ["abc"], retries=3, backoff_s=0.05) == [3]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 0.05
    assert gaps[1] >= 0.1
    assert gaps[2] >= 0.3


def test_giving_up_names_the_address_and_the_reason(endpoint: Endpoint) -> None:
    endpoint.answer = lambda body, number: (500, {}, b"")
    with pytest.raises(UserError) as error:
        ask(endpoint, ["abc"], retries=1)
    assert f"{endpoint.url} gave no answer after 2 attempts (status 500)" in str(error.value)


def test_a_time_out_is_one_sentence(endpoint: Endpoint) -> None:
    wait = threading.Event()

    def never(body: dict[str, Any], number: int) -> Reply:
        wait.wait(5)
        return good(body)

    endpoint.answer = never
    started = time.monotonic()
    with pytest.raises(UserError, match=r"gave no answer after 1 attempt \(no answer within 0.2 s\)"):
        ask(endpoint, ["abc"], retries=0, timeout_s=0.2)
    assert time.monotonic() - started < 4
    wait.set()


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/score"
        with pytest.raises(UserError, match=r"gave no answer after 2 attempts \(connection refused\)"):
            judge("http_judge", url=url, retries=1, backoff_s=0.0)(episodes(["abc"]))


def test_a_refusal_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.answer = lambda body, number: (401, {}, b"wrong\ntoken")
    with pytest.raises(UserError, match=r"refuses with the status 401 \(wrong token\)"):
        ask(endpoint, ["abc"], retries=5)
    assert len(endpoint.bodies) == 1


def test_a_redirect_is_not_followed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "secret")
    other = Endpoint()
    endpoint.answer = lambda body, number: (302, {"Location": other.url}, b"")
    with pytest.raises(UserError, match=r"refuses with the status 302 and points to http://127"):
        ask(endpoint, ["abc"], token_env="JUDGE_TOKEN")
    assert other.bodies == []
    other.close()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not json", "answered 'not json', which is no JSON"),
        (b"{}", "for 1 items; it must send"),
        (b'{"scores": [1, 2]}', "answered 2 scores for 1 items"),
        (b'{"scores": ["high"]}', "answered the score 'high', which is no finite number"),
        (b'{"scores": [NaN]}', "answered the score nan"),
        (b'{"scores": [true]}', "answered the score True"),
        (b"[1]", "for 1 items"),
    ],
)
def test_a_wrong_answer_is_one_sentence(endpoint: Endpoint, data: bytes, said: str) -> None:
    endpoint.answer = lambda body, number: (200, {}, data)
    with pytest.raises(UserError) as error:
        ask(endpoint, ["abc"])
    assert said in str(error.value)
    assert endpoint.url in str(error.value)


def test_the_token_goes_into_the_header_and_into_no_message(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="the environment variable JUDGE_TOKEN"):
        judge("http_judge", url=endpoint.url, token_env="JUDGE_TOKEN")
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    assert ask(endpoint, ["abc"], token_env="JUDGE_TOKEN") == [3]
    assert endpoint.headers[0]["Authorization"] == "Bearer s3cret"
    assert shown("https://host:1/path?key=s3cret") == "https://host:1/path"


def test_the_cache_answers_by_content_in_another_process_too(endpoint: Endpoint, tmp_path: Path) -> None:
    file = str(tmp_path / "folder" / "answers.sqlite")
    assert ask(endpoint, ["abc", "de"], cache=file) == [3, 2]
    assert ask(endpoint, ["de", "abc", "new!"], cache=file) == [2, 3, 4]  # a new instance
    assert [item["response"] for item in endpoint.items] == ["abc", "de", "new!"]
    assert ask(endpoint, ["abc"], cache=file, version="2") == [3]
    assert len(endpoint.items) == 4
    with sqlite3.connect(file) as base:
        assert base.execute("SELECT count(*) FROM answers").fetchone() == (4,)
    base.close()


def test_what_was_answered_before_a_failure_is_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    file = str(tmp_path / "answers.sqlite")
    endpoint.answer = lambda body, number: good(body) if number < 3 else (400, {}, b"enough")
    with pytest.raises(UserError, match="status 400"):
        ask(endpoint, ["a", "bb", "ccc", "dddd"], cache=file, batch_size=1, workers=1)
    endpoint.answer = lambda body, number: good(body)
    asked = len(endpoint.bodies)
    assert ask(endpoint, ["a", "bb", "ccc", "dddd"], cache=file) == [1, 2, 3, 4]
    assert [item["response"] for item in endpoint.items[asked:]] == ["ccc", "dddd"]


def test_a_file_that_is_no_cache_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, and no database at all\n" * 50)
    with pytest.raises(UserError, match=r"the cache .*notes.txt cannot be opened"):
        ask(endpoint, ["abc"], cache=str(file))
    assert file.read_text().startswith("these are notes")


def test_in_a_config_the_error_names_the_source(endpoint: Endpoint) -> None:
    endpoint.answer = lambda body, number: (403, {}, b"no")
    section = {"taste": {"use": "http_judge", "url": endpoint.url}}
    rewards = build_rewards(section, {"taste": 1.0}, get_registry(), str)
    with pytest.raises(
        UserError, match=r"The reward 'taste' \(http_judge\) of plugin 'judges'.* cannot score: http"
    ):
        rewards(episodes(["abc"]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "ftp://host/x"}, "write http://host:port/path"),
        ({"url": "localhost:80"}, "write http://host:port/path"),
        ({"url": "http://host:99999/"}, "write http://host:port/path"),
        ({"url": "http://host/a b"}, "write http://host:port/path"),
        ({"url": "http://me:pw@host/"}, "holds a user name or password"),
        ({"url": "http://host/", "timeout_s": 0.0}, "timeout_s is 0.0"),
        ({"url": "http://host/", "retries": -1}, "retries is -1"),
        ({"url": "http://host/", "backoff_s": -0.5}, "backoff_s is -0.5"),
        ({"url": "http://host/", "workers": 0}, "workers is 0"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("http_judge", **settings)
    assert said in str(error.value)


def test_variants_conform(endpoint: Endpoint, tmp_path: Path) -> None:
    settings = {
        "url": endpoint.url,
        "cache": str(tmp_path / "a.sqlite"),
        "columns": ["answer"],
        "batch_size": 1,
    }
    assert [result for result in check_reward("http_judge", settings) if not result.ok] == []
