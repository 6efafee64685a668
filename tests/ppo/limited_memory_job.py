"""One iteration in a process whose memory is limited, and again without the limit: prints both as JSON."""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path

import torch
from tiny_world import EOS, PAD, VOCAB, Env, TokenCount, kl_source, small, source
from transformers import GPT2Config, GPT2LMHeadModel

from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.networks import Networks
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import scorer_from_causal_lm
from textrl.rewards import RewardSum

ROWS, PROMPT = 64, 240


def learner() -> PPOPTX:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=256, n_embd=32, n_layer=2, n_head=2, eos_token_id=EOS,
        bos_token_id=EOS, pad_token_id=PAD, initializer_range=0.1,
    )  # fmt: skip
    policy = GPT2LMHeadModel(config).eval()
    chosen = small(episodes_per_iteration=ROWS, minibatches=1, micro_batch_size=ROWS)
    networks = Networks(policy, scorer_from_causal_lm(policy, layers=None), None, chosen)
    prompts = [Prompt(ids=tuple(2 + (i + j) % 4 for i in range(PROMPT))) for j in range(4)]
    task = TokenTask(prompts, None, VOCAB, {EOS}, PAD, 3, RewardSum([source(TokenCount())]))
    return PPOPTX(Env(task), chosen, rewards=RewardSum([kl_source(0.3)]), networks=networks)


def iteration(limit_bytes: int | None) -> dict[str, float]:
    made = learner()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if limit_bytes is not None:
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + limit_bytes, most))
    try:
        made.learn(iterations=1)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    weight = sum(float(p.detach().double().abs().sum()) for p in made.updater.policy_params)
    return {**made.metrics, "weights": weight}


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    megabytes = int(sys.argv[1])
    try:
        limited = iteration(megabytes * 2**20)
    except UserError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
        sys.exit(0)
    sys.stdout.write(json.dumps({"limited": limited, "free": iteration(None)}))
