"""The baseline of `textrl bench ppo`: an iteration of TRL 1.12.0's PPOTrainer on the same work.

Runs as a script in an environment of its own, where textrl is not installed, so it imports nothing of
ours. The last line of its output is JSON. TRL is the last public PPO trainer for text that runs on a CPU;
1.12.0 is the last release that has it.

    python ppo_trl.py '{"size": "tiny", "config": {"n_layer": 4, ...}, "batch": 64, ...}'
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import time
import warnings
from typing import Any


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Run the trainer for some iterations and time those after the warm-up.

    Args:
        job: ``size``, ``config`` (of a GPT-2 with random weights) or ``folder`` (of any causal LM),
            ``batch``, ``prompt``, ``response``, ``epochs``, ``minibatches``, ``micro_batch``,
            ``iterations``, ``warm_up`` (iterations before those), ``precision``.
    """
    import torch

    ppo = _module("trl.experimental.ppo.ppo_trainer")
    imported = _peak_mb()
    torch.manual_seed(0)
    models, tokenizer, vocab = _models(job)
    rows = job["batch"] * (job["iterations"] + job["warm_up"] + 1)
    prompts = torch.randint(3, vocab, (rows, job["prompt"])).tolist()
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(job, models, tokenizer, prompts, folder)
        seen: dict[str, list[float]] = {"started": [], "generated": [], "tokens": []}
        plain = ppo.batch_generation

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            seen["started"].append(started)
            out = plain(*args, **kwargs)
            seen["generated"].append(time.perf_counter() - started)
            seen["tokens"].append(out[0].shape[0] * (out[0].shape[1] - job["prompt"]))
            return out

        ppo.batch_generation = timed
        trainer.train()
        finished = time.perf_counter()
    ends = [*seen["started"][1:], finished]
    times = [end - start for start, end in zip(seen["started"], ends, strict=True)]
    return {
        "who": "trl",
        "iteration_s": times[job["warm_up"] :],
        "generate_s": seen["generated"][job["warm_up"] :],
        "tokens": int(seen["tokens"][-1]),
        "peak_mb": _peak_mb(),
        "imported_mb": imported,
        "threads": torch.get_num_threads(),
        "versions": {name: _module(name).__version__ for name in ("torch", "trl")},
    }


def _models(job: dict[str, Any]) -> tuple[dict[str, Any], Any, int]:
    """Return the four networks, of one size, a tokenizer and the size of the vocabulary."""
    import tokenizers
    import transformers

    if job.get("folder"):
        config = transformers.AutoConfig.from_pretrained(job["folder"])
        config.num_labels = 1
        policy = transformers.AutoModelForCausalLM.from_pretrained(job["folder"], dtype="float32")
    else:
        config = transformers.GPT2Config(
            **job["config"], bos_token_id=1, eos_token_id=1, pad_token_id=2, num_labels=1
        )
        policy = transformers.AutoModelForCausalLM.from_config(config)
    reference = transformers.AutoModelForCausalLM.from_config(policy.config)
    reference.load_state_dict(policy.state_dict())
    scorer = transformers.AutoModelForSequenceClassification
    models = {
        "model": policy,
        "ref_model": reference,
        "reward_model": scorer.from_config(config),
        "value_model": scorer.from_config(config),
    }
    words = {f"t{index}": index for index in range(config.vocab_size)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0")),
        eos_token="t1",
        pad_token="t2",
    )
    return models, tokenizer, config.vocab_size


def _trainer(
    job: dict[str, Any], models: dict[str, Any], tokenizer: Any, prompts: list[list[int]], folder: str
) -> Any:
    import datasets

    ppo = _module("trl.experimental.ppo")
    data = datasets.Dataset.from_dict({"input_ids": prompts})
    config = ppo.PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=job["micro_batch"],
        gradient_accumulation_steps=job["batch"] // job["micro_batch"],
        num_mini_batches=job["minibatches"],
        total_episodes=job["batch"] * (job["iterations"] + job["warm_up"]),
        num_ppo_epochs=job["epochs"],
        response_length=job["response"],
        local_rollout_forward_batch_size=job["batch"],
        temperature=1.0,
        stop_token=None,  # no early stop
        missing_eos_penalty=None,
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=job["precision"] == "bf16",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_steps=1000,
        disable_tqdm=True,
    )
    return ppo.PPOTrainer(
        args=config,
        processing_class=tokenizer,
        **models,
        train_dataset=data,
        eval_dataset=data.select(range(8)),
    )


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    os.environ.update(TRL_EXPERIMENTAL_SILENCE="1", HF_HUB_OFFLINE="1")
    result = measure(json.loads(sys.argv[1]))
    sys.stdout.write("\n" + json.dumps(result) + "\n")
