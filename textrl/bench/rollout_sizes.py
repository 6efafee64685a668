"""Models of known size for the speed benchmarks, and what one pass through them must cost at least.

Weights are random where nothing depends on them: an arithmetic unit does not see what it multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from textrl.models.layers import blocks

#: Prompt tokens of every speed benchmark.
PROMPT = 32
#: Response tokens, where the benchmark does not vary them.
RESPONSE = 48

#: GPT-2 configurations by name; ``smollm2`` is loaded from its package.
GPT2_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "n_head": 8, "n_embd": 256, "vocab_size": 4096},
    "tiny-50k": {"n_layer": 4, "n_head": 8, "n_embd": 256, "vocab_size": 50257},
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257},
}
SIZES = (*GPT2_SIZES, "smollm2")


@dataclass(frozen=True)
class Shape:
    """What counts of a model: numbers of weights that a token meets.

    Attributes:
        block_weights: In the matrices of all blocks.
        head_weights: In the output embedding.
        layers: Blocks.
        width: Of the residual stream.
        kv_width: Keys and values of one token and one block, numbers.
    """

    block_weights: int
    head_weights: int
    layers: int
    width: int
    kv_width: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Shape:
        """Count them."""
        config: Any = model.config
        heads = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        return cls(
            block_weights=sum(p.numel() for p in blocks(model).parameters() if p.ndim == 2),
            head_weights=model.get_output_embeddings().weight.numel(),
            layers=len(blocks(model)),
            width=config.hidden_size,
            kv_width=2 * groups * (config.hidden_size // heads),
        )

    def forward_flops(self, rows: int, length: int, scored: int) -> float:
        """Return the operations of one forward pass over whole sequences.

        Args:
            rows: Sequences.
            length: Tokens of each.
            scored: Tokens of each that go through the output embedding.
        """
        # Scores and weighted values of the causal half: 2 products x 2 operations x L^2 / 2 x width.
        attention = 2.0 * self.layers * length * length * self.width
        return rows * (2.0 * self.block_weights * length + 2.0 * self.head_weights * scored + attention)

    def rollout_bytes(self, rows: int, prompt: int, steps: int) -> float:
        """Return what decoding must at least read: all weights once a step, the keys and values so far."""
        weights = 4.0 * (self.block_weights + self.head_weights) * steps
        tokens_read = steps * prompt + steps * (steps - 1) / 2
        return weights + 4.0 * rows * tokens_read * self.kv_width * self.layers


def make_model(size: str, positions: int = 256, seed: int = 0) -> PreTrainedModel:
    """Return a causal LM in evaluation mode.

    Args:
        size: A name in `SIZES`.
        positions: Longest sequence, for the sizes with random weights.
        seed: Of the random weights.

    Raises:
        UserError: When the weights of ``smollm2`` are not installed.
    """
    if size == "smollm2":
        from textrl.models.loading import load_causal_lm

        return load_causal_lm("smollm2-135m")[0]
    torch.manual_seed(seed)
    config = GPT2Config(
        **GPT2_SIZES[size], n_positions=positions, bos_token_id=1, eos_token_id=1, pad_token_id=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def make_prompts(model: PreTrainedModel, rows: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return (B, 32) random ids and their mask; no padding, so that every token counts."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, model.config.vocab_size, (rows, PROMPT), generator=generator)
    return ids, torch.ones_like(ids, dtype=torch.bool)
