"""From a config to the work it describes: which networks, how long the sequences, how many iterations.

Nothing is loaded but the models' configurations and, where the prompts are at hand, the tokenizer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from textrl.config import ConfigNode, build
from textrl.data.prompts import read_prompts
from textrl.data.ratings import load_ratings, ratings_cached
from textrl.data.tokenizers import load_tokenizer
from textrl.errors import UserError
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.task import Prompt
from textrl.models.sources import one_line, quiet_transformers, resolve
from textrl.pipelines.frontier import FrontierSettings
from textrl.pipelines.rlhf.material import beginnings
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.pipelines.single import SingleSettings
from textrl.plan.equal import equal_blocks
from textrl.registry import Registry

#: Snippets looked at to learn how long a pipeline's prompts are.
_LOOKED_AT = 300
#: Tokens of an English word, where no tokenizer has been asked.
_TOKENS_PER_WORD = 1.4


@dataclass(frozen=True)
class Scorer:
    """A network with a score head: the value network, or a reward model.

    Attributes:
        name: As the tables say.
        config: Of the model it is, or is made from.
        blocks: How many of that model's blocks it has; None is all.
        equal: Leading blocks (with the embeddings) whose weights are the policy's.
        batch: Sequences it scores at once; None is the learner's micro-batch.
        on_disk: Whether its weights are in memory only while it scores.
    """

    name: str
    config: PreTrainedConfig
    blocks: int | None = None
    equal: int = 0
    batch: int | None = None
    on_disk: bool = False


@dataclass(frozen=True)
class Workload:
    """What PPO-ptx will have to do.

    Attributes:
        config: The config's name.
        model: The policy's name in it.
        settings: Of the learner.
        policy: Configuration of the policy.
        value: The value network, or None where it is a head on the policy.
        reward_models: The sources of reward that are networks.
        prompt_tokens: Of a prompt, on average and at most.
        response_tokens: Of a response, at most.
        iterations: Of the whole training.
        notes: What had to be assumed.
    """

    config: str
    model: str
    settings: PPOPTXSettings
    policy: PreTrainedConfig
    value: Scorer | None
    reward_models: tuple[Scorer, ...]
    prompt_tokens: tuple[float, int]
    response_tokens: int
    iterations: int
    notes: tuple[str, ...] = ()


def read_workload(node: ConfigNode, registry: Registry, *, prompt_tokens: int | None = None) -> Workload:
    """Find out what a config asks of PPO-ptx.

    Args:
        node: The config.
        registry: Where models and rewards are looked up.
        prompt_tokens: Length of a prompt; None looks at the prompts themselves.

    Raises:
        UserError: When the config is wrong or has no PPO-ptx in it.
    """
    pipeline, learner = node.data.get("pipeline"), node.data.get("learner")
    if pipeline == "rlhf":
        return _of_pipeline(build(RLHFSettings, node.data, where=node.where), node, registry, prompt_tokens)
    if pipeline == "frontier":
        frontier = build(FrontierSettings, node.data, where=node.where)
        found = _of_pipeline(frontier.base, node, registry, prompt_tokens)
        arms = len(frontier.arms) * len(frontier.seeds)
        note = f"{arms} trainings ({len(frontier.arms)} arms, {len(frontier.seeds)} seeds) of this kind"
        return replace(found, notes=(*found.notes, note))
    if learner == "ppo_ptx":
        return _of_learner(build(SingleSettings, node.data, where=node.where), node, registry, prompt_tokens)
    raise UserError(
        f"{node.name}: only PPO-ptx can be planned (`learner: ppo_ptx`, or a pipeline rlhf or frontier); "
        f"this config has {pipeline or learner or 'neither'}."
    )


def _of_pipeline(
    config: RLHFSettings, node: ConfigNode, registry: Registry, prompt_tokens: int | None
) -> Workload:
    """The three-step pipeline: policy and reward model both come from the SFT model."""
    policy = read_config(config.model, registry)
    # The reward model keeps the SFT model's weights below its first trainable block.
    equal = config.reward_model.first_trainable or 0
    scorer = Scorer("reward model", policy, config.reward_model.layers, equal)
    kinds = {name: str((section or {}).get("use", name)) for name, section in config.sources.items()}
    scorers = [
        _as_source(scorer, name, config.sources[name] or {})
        for name, kind in kinds.items()
        if kind == "reward_model"
    ]
    ppo = config.ppo
    lengths, notes = _prompts_of_pipeline(config, registry, prompt_tokens)
    return Workload(
        config=node.name,
        model=config.model,
        settings=ppo,
        policy=policy,
        value=replace(scorer, name="value network") if ppo.value_network == "separate" else None,
        reward_models=tuple(scorers),
        prompt_tokens=lengths,
        response_tokens=config.max_new_tokens,
        iterations=config.iterations,
        notes=(*notes, "PPO alone: SFT, the reward model's training and the evaluation come on top"),
    )


def _prompts_of_pipeline(
    config: RLHFSettings, registry: Registry, given: int | None
) -> tuple[tuple[float, int], list[str]]:
    """Return mean and greatest length of the pipeline's prompts, and how they are known."""
    if given is not None:
        return (given, given), []
    words = config.data.prompt_words
    if config.data.source == "made":
        from textrl.data.made import made_reviews

        texts = beginnings(made_reviews(_LOOKED_AT, config.ppo.seed), words)
    elif ratings_cached():
        texts = beginnings(load_ratings("movie")[:_LOOKED_AT], words)
    else:
        guess = math.ceil(_TOKENS_PER_WORD * words)
        return (guess, guess), [f"prompts of {words} words are taken to have {guess} tokens"]
    found = read_prompts(texts, load_tokenizer(config.model), max_prompt_tokens=4096)
    return _lengths(found), []


def _as_source(scorer: Scorer, name: str, section: Mapping[str, Any]) -> Scorer:
    """Return a reward model as its section of `sources:` has it."""
    batch = int(section.get("micro_batch_size", 32))
    return replace(scorer, name=name, batch=batch, on_disk=section.get("device") == "disk")


def _of_learner(
    config: SingleSettings, node: ConfigNode, registry: Registry, prompt_tokens: int | None
) -> Workload:
    settings = build(PPOPTXSettings, config.settings, where=node.where, prefix="settings")
    policy = read_config(settings.policy, registry)
    value = None
    if settings.value_network == "separate" and settings.value is None:
        value = Scorer("value network", policy, equal=policy.num_hidden_layers)
    elif settings.value_network == "separate":
        assert settings.value is not None  # the other case stands above
        value = _scorer("value network", settings.value, settings.policy, registry, None)
    scorers = []
    for name, section in config.sources.items():
        section = section or {}
        if section.get("use", name) == "reward_model" and name in config.rewards:
            scorer = _scorer(name, str(section.get("model")), settings.policy, registry, None)
            scorers.append(_as_source(scorer, name, section))
    response = int(config.env.get("max_new_tokens", 16))
    lengths, notes = _prompts_of_env(config.env, settings.policy, prompt_tokens)
    per_iteration = settings.episodes_per_iteration * response
    return Workload(
        config=node.name,
        model=settings.policy,
        settings=settings,
        policy=policy,
        value=value,
        reward_models=tuple(scorers),
        prompt_tokens=lengths,
        response_tokens=response,
        iterations=math.ceil((config.total_timesteps or per_iteration) / per_iteration),
        notes=tuple(notes),
    )


def _scorer(name: str, model: str, policy: str, registry: Registry, batch: int | None) -> Scorer:
    config = read_config(model, registry)
    folders = [_folder(one, registry) for one in (policy, model)]
    equal = equal_blocks(folders[0], folders[1]) if folders[0] and folders[1] else 0
    return Scorer(name, config, None, equal, batch)


def _prompts_of_env(
    env: Mapping[str, Any], policy: str, given: int | None
) -> tuple[tuple[float, int], list[str]]:
    """Return mean and greatest length of an environment's prompts, and how they are known."""
    if given is not None:
        return (given, given), []
    source = env.get("prompts")
    limit = int(env.get("max_prompt_tokens", 512))
    if source is None or (isinstance(source, str) and not Path(source).expanduser().is_file()):
        return (limit, limit), [f"prompts are taken to have the {limit} tokens that max_prompt_tokens allows"]
    tokenizer = load_tokenizer(str(env.get("tokenizer") or policy))
    column = str(env.get("column", "prompt"))
    found = read_prompts(source, tokenizer, max_prompt_tokens=limit, column=column)
    return _lengths(found), []


def _lengths(prompts: Sequence[Prompt]) -> tuple[float, int]:
    found = [len(prompt.ids) for prompt in prompts]
    return statistics.fmean(found), max(found)


def read_config(name: str, registry: Registry) -> PreTrainedConfig:
    """Return a model's configuration; a hub id costs one small file.

    Raises:
        UserError: When there is no such model.
    """
    folder = _folder(name, registry)
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(folder or name, trust_remote_code=False)
    except Exception as error:  # transformers and the hub raise many kinds
        raise UserError(
            f"The configuration of the model '{name}' cannot be read ({one_line(error)}); name a registered "
            "model, a folder with a config.json, or a hub id."
        ) from error


def _folder(name: str, registry: Registry) -> str | None:
    """Return the local folder of a model, or None for what only the hub could have."""
    path = Path(name).expanduser()
    local = name in registry.specs("model") or path.exists() or name.count("/") != 1
    return resolve(name, registry) if local else None
