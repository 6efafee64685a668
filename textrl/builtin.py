"""What comes with the core, offered through the same hooks as everybody else's plugins."""

from __future__ import annotations

from collections.abc import Iterator

from textrl.hookspecs import hookimpl
from textrl.learners.sb3.records import sb3_learners
from textrl.specs import CommandSpec, LearnerSpec, ModelSpec


@hookimpl
def textrl_learners() -> Iterator[LearnerSpec]:
    """PPO-ptx, the learner of InstructGPT; SARSA(lambda); TAMER; PPO-ptx's core on vectors; what SB3 has."""
    yield LearnerSpec(
        name="ppo_ptx",
        target="textrl.learners.ppo_ptx:PPOPTX",
        settings="textrl.learners.ppo_ptx.settings:PPOPTXSettings",
        summary="PPO with a pretraining term and a penalty on the KL divergence from the reference.",
        accepts=frozenset({"reward", "target", "action_scores", "behaviour"}),
    )
    yield LearnerSpec(
        name="sarsa",
        target="textrl.learners.sarsa:Sarsa",
        settings="textrl.learners.sarsa:SarsaSettings",
        summary="SARSA(lambda) with linear features; takes advice in all four ways of TAMER+RL.",
        accepts=frozenset({"reward", "target", "action_scores", "behaviour"}),
    )
    yield LearnerSpec(
        name="tamer",
        target="textrl.learners.tamer:TamerLearner",
        settings="textrl.learners.tamer:TamerLearnerSettings",
        summary="TAMER: acts greedily on what a person's presses say, and on nothing else.",
        accepts=frozenset({"action_scores", "behaviour"}),
    )
    yield LearnerSpec(
        name="ppo",
        target="textrl.learners.ppo:PPO",
        settings="textrl.learners.ppo.settings:PPOSettings",
        summary="The core of ppo_ptx with a small network, for vectors and discrete actions.",
    )
    yield LearnerSpec(
        name="rloo",
        target="textrl.learners.rloo:RLOO",
        settings="textrl.learners.rloo.settings:RLOOSettings",
        summary="REINFORCE against the mean of the other responses to the same prompt.",
    )
    yield LearnerSpec(
        name="grpo",
        target="textrl.learners.grpo:GRPO",
        settings="textrl.learners.grpo.settings:GRPOSettings",
        summary="PPO's clipped loss on rewards relative to a group of responses, without a value network.",
    )
    yield from sb3_learners()


@hookimpl
def textrl_models() -> Iterator[ModelSpec]:
    """The two models that need no model hub."""
    yield ModelSpec(
        name="smollm2-135m",
        target="textrl.models.smollm:smollm2_135m",
        summary="SmolLM2-135M from the package index, converted once to safetensors.",
    )
    yield ModelSpec(
        name="tiny-gpt2",
        target="textrl.models.loading:tiny_gpt2",
        summary="A small GPT-2 with random weights, made on the spot: the fallback without downloads.",
    )


@hookimpl
def textrl_commands() -> Iterator[CommandSpec]:
    """Commands that are not part of the command line itself."""
    yield CommandSpec(
        name="bench",
        target="textrl.bench:bench",
        summary="Measure what the pages state: start-up times, learners on classic control, the TAMER study.",
    )
    yield CommandSpec(
        name="plan",
        target="textrl.plan:plan",
        summary="Show the memory and the arithmetic that a config with PPO-ptx will need, part by part.",
    )
