"""Plugins of every temper beside each other, in processes of their own, as a stranger would meet them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from installing import COIN, write_distribution

from textrl.errors import PluginError
from textrl.registry import get_registry
from textrl.rewards import build_rewards
from textrl.testing import make_batch, samples

Run = Callable[..., subprocess.CompletedProcess[str]]
PluginFile = Callable[[str, str], str]

REWARD = """
@hookimpl
def textrl_rewards():
    yield RewardSpec(name="{name}", target="{module}:Source", summary="a source")

class Source:
    def __call__(self, batch):
        import torch
        value = torch.full((batch.response_ids.shape[0],), 1.0)
        {body}
        return value
"""


def reward(name: str, module: str, body: str = "") -> str:
    return REWARD.format(name=name, module=module, body=body or "pass")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    write_distribution(folder, "third-good", reward("good", "third_good"), version="2.1")
    write_distribution(folder, "third-broken", "import no_such_module")
    write_distribution(
        folder, "third-typo", reward("typo", "third_typo").replace("textrl_rewards", "textrl_reward")
    )
    return folder


def test_good_broken_and_mistyped_plugins_beside_each_other(site: Path, run_process: Run) -> None:
    done = run_process("plugins", "--json", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert done.stderr == ""
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["third_good"] == {
        "name": "third_good",
        "package": "third-good 2.1",
        "status": "ok",
        "offers": {"reward": ["good"]},
        "error": "",
        "import_ms": rows["third_good"]["import_ms"],
    }
    assert rows["third_broken"]["error"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert "unknown hook 'textrl_reward'. Did you mean 'textrl_rewards'?" in rows["third_typo"]["error"]
    assert rows["builtin"]["status"] == rows["kl"]["status"] == rows["rules"]["status"] == "ok"


def test_a_clash_refuses_every_command_until_one_is_left_out(site: Path, run_process: Run) -> None:
    write_distribution(site, "third-rival", reward("length", "third_rival"))
    for command in (["plugins"], ["rewards", "--json"], ["run", "c.yaml"], ["--help"]):
        done = run_process(*command, PYTHONPATH=str(site))
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            "textrl: error: The reward 'length' is offered by plugin 'rules' (textrl-mdp 0.1.0) and by "
            "plugin 'third_rival' (third-rival 1.0); uninstall one of them or leave it out with "
            "--disable third_rival.\n"
        )
    done = run_process("rewards", "length", "--disable", "third_rival", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert "plugin 'rules'" in done.stdout


def test_strict_by_the_environment(site: Path, run_process: Run) -> None:
    done = run_process("plugins", PYTHONPATH=str(site), TEXTRL_STRICT="1")
    assert done.returncode == 2
    assert "'third_broken' is broken and --strict is on" in done.stderr
    disabled = os.pathsep.join(["third_broken", "third-typo"])
    done = run_process("plugins", PYTHONPATH=str(site), TEXTRL_STRICT="1", TEXTRL_DISABLE=disabled)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("value[0] = float('nan')", "nan|NaN|not finite"),
        ("value[0] = float('inf')", "inf|not finite"),
        ("value = value[:1]", "shape"),
        ("value = value.long()", "dtype|float"),
        ("raise ValueError('no idea')", "ValueError.*no idea"),
        ("value = 1.0", "float"),
    ],
)
def test_a_reward_that_misbehaves_stops_the_run_with_its_plugins_name(
    plugin_file: PluginFile, body: str, says: str
) -> None:
    path = plugin_file("my_bad", reward("bad", "my_bad", body))
    registry = get_registry(plugins=[path])
    rewards = build_rewards({"bad": {}}, {"bad": 1.0}, registry, lambda key: f"c.yaml ({key})")
    batch = make_batch(samples(), registry.find("reward", "bad").needs)
    with pytest.raises(PluginError, match=says) as caught:
        rewards(batch)
    assert "my_bad" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_reward_without_the_mistake_is_the_total(plugin_file: PluginFile) -> None:
    path = plugin_file("my_fine", reward("fine", "my_fine"))
    registry = get_registry(plugins=[path])
    rewards = build_rewards({"fine": {}}, {"fine": 2.0}, registry, lambda key: "c.yaml")
    batch = make_batch(samples(), frozenset())
    total = rewards(batch).total
    assert torch.equal(total.sum(1), torch.full((len(samples()),), 2.0))
    assert torch.equal(total * ~batch.response_mask, torch.zeros_like(total))


HOOKS = """
@hookimpl
def textrl_envs():
    yield EnvSpec(name="Third/Coin-v0", target="my_coin:Coin", summary="a coin", kwargs=(("sides", 2),))

@hookimpl
def textrl_learners():
    yield LearnerSpec(
        name="guesser", target="my_coin:Guesser", settings="my_coin:GuesserSettings", summary="guesses",
        accepts=frozenset({"reward"}),
    )
"""
WORLD = (
    """
import json
import os
from dataclasses import dataclass
import gymnasium
"""
    + COIN
    + """
@dataclass(frozen=True)
class GuesserSettings:
    stop_after: int | None = None

class Guesser:
    def __init__(self, env, settings):
        self.env, self.settings, self.num_timesteps = env, settings, 0
    def set_logger(self, logger):
        self.logger = logger
    def learn(self, total_timesteps, callback=None, progress_bar=False):
        won = 0.0
        while self.num_timesteps < total_timesteps:
            if self.num_timesteps == self.settings.stop_after:
                raise KeyboardInterrupt
            self.env.reset(seed=self.num_timesteps)
            won += self.env.step(self.num_timesteps % 2)[1]
            self.num_timesteps += 1
        self.logger.record("rollout/ep_rew_mean", won / total_timesteps)
        self.logger.dump(total_timesteps)
        return self
    def save(self, path):
        os.makedirs(path)
        with open(os.path.join(path, "guesser.json"), "w") as file:
            json.dump(self.num_timesteps, file)
"""
)


def test_a_third_party_learner_runs_on_a_third_party_environment(
    tmp_path: Path, plugin_file: PluginFile, run_process: Run
) -> None:
    path = plugin_file("my_world", HOOKS)
    (tmp_path / "my_coin.py").write_text(WORLD)
    (tmp_path / "c.yaml").write_text(
        "learner: guesser\nenv: {id: Third/Coin-v0, sides: 2}\ntotal_timesteps: 8\n"
    )
    command = ["run", "c.yaml", "--plugin", path]
    done = run_process(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (row,) = (tmp_path / "runs" / "c" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(row)["rollout/ep_rew_mean"] == 0.5
    assert (tmp_path / "runs" / "c" / "models" / "guesser" / "guesser.json").read_text() == "8"

    stopped = [*command, "--name", "b", "--settings.stop_after", "3"]
    done = run_process(*stopped, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 130
    expected = f"textrl: interrupted; continue with: textrl {' '.join(stopped)} --resume"
    assert done.stderr.splitlines()[-1] == expected

    wrong = [*command, "--name", "w", "--settings.stop_aftr", "3"]
    done = run_process(*wrong, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        "textrl: error: command line (--settings.stop_aftr): unknown key 'settings.stop_aftr'. "
        "Did you mean 'stop_after'?\n"
    )
    assert not (tmp_path / "runs" / "w").exists(), "nothing half-written"
