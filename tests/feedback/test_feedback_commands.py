"""``textrl feedback control | text | rank`` as a command: what it refuses, what it says, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from textrl.cli import main
from textrl.feedback.server.auth import lan_addresses
from textrl.feedback.store import SessionInfo, open_store
from textrl.feedback.verify import verify

ITEMS = [
    {"prompt": "Say hello.", "completions": ["Hello, lovely to see you!", "No."]},
    {"prompt": "Say goodbye.", "completions": ["Farewell, dear friend.", "Go away, you fool.", "Bye."]},
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXTRL_TOKEN", raising=False)
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("control", "--env MountainCar-v0"),
        ("control --env MountainCarr-v0", "MountainCar"),
        ("control --env Pendulum-v1", "Discrete action"),
        ("control --env MountainCar-v0 --step-s -1", "step_s"),
        ("control --settings no.yaml --env MountainCar-v0", "no.yaml"),
        ("control --settings items.jsonl --env MountainCar-v0", "items.jsonl"),
        ("control --env MountainCar-v0 --minutes 3", "--simulate"),
        ("control --env MountainCar-v0 --simulate oracle --minutes 0", "--minutes is 0"),
        ("control --env MountainCar-v0 --token short", "16 plain characters"),
        ("control --env MountainCar-v0 --port 99999", "--port is 99999"),
        ("control --env MountainCar-v0 --simulate nobody", "nobody"),
        ("control --env MountainCar-v0 --simulate oracle --truth nosuch", "nosuch"),
        ("control --env Acrobot-v1 --simulate oracle", "--truth module:function"),
        ("control --env MountainCar-v0 --learner tamer --technique control_sharing", "--learner tamer+rl"),
        ("control --env MountainCar-v0 --people 3", "--people belongs"),
        ("text --model made --simulate nobody", "nobody"),
        ("rank --items items.jsonl --simulate nobody", "nobody"),
        ("rank --items items.jsonl --simulate oracle --truth rule", "--truth does nothing"),
        ("rank --items items.jsonl --k 3", "--k belongs to --model"),
        ("rank --items items.jsonl --most 0", "--most is 0"),
        ("rank --items items.jsonl --instructions no.txt", "No such file or directory"),
        ("rank --items items.jsonl --store items.jsonl", "items.jsonl"),
        ("replay x --upto 0", "--upto is 0"),
        ("control --env MountainCar-v0 --store no/such/folder/s.sqlite", "no/such/folder"),
        ("rank", "--items FILE"),
        ("rank --items items.jsonl --model made --prompts p.txt", "--items FILE"),
        ("rank --items none.jsonl", "none.jsonl"),
        ("rank --items items.jsonl --overlap -1", "--overlap is -1"),
        ("controll --env MountainCar-v0", "control"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing_behind(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    before = sorted(os.listdir(here))
    port = [] if "--port" in line or line.startswith("replay") else ["--port", "0"]
    assert main(["feedback", *line.split(), *port]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("textrl: error: ")
    assert said in error
    assert sorted(os.listdir(here)) == before


def test_a_session_that_is_there_takes_no_other_items(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store("s.sqlite")
    store.create_session(SessionInfo(session="a", mode="rank", created=0.0, config={}, versions={}))
    store.close()
    there = ["--store", "s.sqlite", "--session", "a", "--port", "0"]
    assert main(["feedback", "rank", "--items", "none.jsonl", "--most", "3", *there]) == 2
    assert "with all that it shows; leave --items and --most out" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_full_disk_at_the_start_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = here / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with contextlib.suppress(OSError):
            (disk / "filler").write_bytes(b"x" * 16_384)
        store = str(disk / "s.sqlite")
        assert main(["feedback", "rank", "--items", "items.jsonl", "--store", store, "--port", "0"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("textrl: error: ")
        assert os.listdir(disk) == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(("host", "risky"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)])
def test_a_host_that_others_can_reach_is_named_as_a_risk(
    here: Path, capsys: pytest.CaptureFixture[str], host: str, risky: bool
) -> None:
    assert main(["feedback", "rank", "--host", host, "--port", "0"]) == 2
    assert ("unencrypted" in capsys.readouterr().err) == risky


def test_a_session_of_another_kind_or_with_other_settings_is_not_gone_on_with(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store("s.sqlite")
    config = {"env": "MountainCar-v0", "seed": 3}
    store.create_session(SessionInfo(session="a", mode="control", created=0.0, config=config, versions={}))
    store.close()
    start = ["--store", "s.sqlite", "--session", "a", "--port", "0"]
    for line, said in (
        (["rank"], "textrl feedback control"),
        (["control", "--env", "CartPole-v1"], "env MountainCar-v0, not CartPole-v1"),
        (["control", "--seed", "4"], "seed 3, not 4"),
        (["control", "--settings", "no.yaml"], "leave --settings out"),
    ):
        assert main(["feedback", *line, *start]) == 2
        assert said in capsys.readouterr().err


def test_two_servers_on_one_store_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store("s.sqlite")
    assert main(["feedback", "rank", "--items", "items.jsonl", "--store", "s.sqlite", "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert error.count("textrl: error:") == 1
    assert "s.sqlite" in error
    store.close()


def feedback(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "textrl.cli", "feedback", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def links_of(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    links: dict[str, str] = {}
    for line in process.stdout:
        if found := re.match(r"(Open|Share): +(\S+)", line):
            links[found[1]] = found[2]
        if len(links) == 2:
            break
    return links


@pytest.mark.skipif(not lan_addresses(), reason="this machine has no address but its own")
def test_other_machines_reach_a_server_by_its_address_and_with_its_token_only(here: Path) -> None:
    with feedback("rank", "--items", "items.jsonl", "--host", "0.0.0.0") as process:
        share = links_of(process)["Share"]
        address = share.partition("/login")[0]
        assert address.startswith(f"http://{lan_addresses()[0]}:")
        assert httpx.get(f"{address}/api/sessions").status_code == 401
        assert httpx.get(f"{address}/login?token={'x' * 32}").status_code == 403
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(share).status_code == 200
            assert len(client.get(f"{address}/api/sessions").json()) == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_pilot_study_runs_by_itself_and_can_be_gone_on_with_and_verified(here: Path) -> None:
    """Two simulated people rank everything; a restart finds them done; Ctrl-C ends with 0."""
    pilot = ["--simulate", "oracle", "--people", "2", "--events-per-s", "50"]
    with feedback("rank", "--items", "items.jsonl", "--overlap", "2", *pilot) as first:
        said = first.communicate(timeout=120)[0]
    assert first.returncode == 0, said
    assert "2 given" in said
    with feedback("rank", "--session", "rank-items-1") as second:
        links = links_of(second)
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(links["Open"]).status_code == 200
            listed = client.get(links["Open"].partition("/login")[0] + "/api/sessions").json()
        assert listed[0]["session"] == "rank-items-1"
        second.send_signal(signal.SIGINT)
        rest = second.communicate(timeout=60)[0]
    assert second.returncode == 0
    assert "--session rank-items-1" in rest
    assert links["Open"] != links["Share"]
    store = open_store("sessions.sqlite", readonly=True)
    ranked = list(store.events("rank-items-1", kinds=("ranked",)))
    report = verify(store, replay=True)
    store.close()
    assert not report.findings, report.findings
    assert len(ranked) == 4
    by_item = {(event.annotator, event.payload["item"]): event.payload["ranks"] for event in ranked}
    assert by_item[("simulated-1", "1")] == [1, 2]
    assert len({tuple(ranks) for (_, item), ranks in by_item.items() if item == "2"}) == 1
