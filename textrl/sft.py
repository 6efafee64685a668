"""Step 1: supervised fine-tuning on demonstrations (Ouyang et al. 2022, section 3.5 and appendix C.1).

The loss counts the tokens of the responses, and all tokens of pretraining text where some is mixed in;
it is their sum over the global count of the optimizer step, so it depends neither on the size of a
micro-batch nor on the number of processes. Logits exist for counted positions only, chunk by chunk.

Shapes: ``B`` sequences, ``T`` tokens, ``N`` counted tokens, ``H`` width, ``V`` vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import (
    Padded,
    ResidualDropout,
    Row,
    check_packing,
    context_length,
    encode,
    hidden_states,
    pack,
    pad,
    plan,
)
from textrl.distributed import share, sum_metrics
from textrl.errors import UserError
from textrl.fit import fit
from textrl.mdp.logprobs import token_logprobs
from textrl.mdp.order import visit
from textrl.models.precision import resolve_precision
from textrl.training import Log, TrainSettings, prepare, require


@dataclass(frozen=True)
class SFTExample:
    """A demonstration.

    Attributes:
        prompt: What is given; may be empty.
        completion: What a good policy writes.
    """

    prompt: str
    completion: str


@dataclass(frozen=True, kw_only=True)
class SFTSettings(TrainSettings):
    """Settings of supervised fine-tuning; see also `TrainSettings`.

    Attributes:
        dropout: 0.2 in the paper.
        packing: Fill each sequence with several examples that do not see each other, instead of padding.
        pretrain_fraction: Share of a batch's rows that are pretraining text; 0.1 in the paper for the
            model that PPO starts from.
    """

    dropout: float = 0.2
    packing: bool = False
    pretrain_fraction: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.pretrain_fraction < 1, f"pretrain_fraction is {self.pretrain_fraction}; use 0 to 1")


@dataclass(frozen=True)
class SFTResult:
    """What came out; the weights are in the model.

    Attributes:
        steps: Optimizer steps.
        loss: Of the last step, nats per token.
        val_loss: On the held-out examples, nats per response token; NaN without any.
        seconds: Wall time of this process, s.
        resumed_from: Step of the checkpoint this process began at.
    """

    steps: int
    loss: float
    val_loss: float
    seconds: float
    resumed_from: int


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[SFTExample],
    settings: SFTSettings,
    *,
    log: Log,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    held_out: Sequence[SFTExample] = (),
    pretrain: Sequence[str] = (),
    accelerator: Accelerator | None = None,
) -> SFTResult:
    """Fine-tune `model` in place.

    Args:
        model: A causal LM with fp32 weights.
        tokenizer: Its tokenizer.
        examples: Demonstrations.
        settings: See `SFTSettings`.
        log: Called on the main process after each step with the number of steps done and figures.
        checkpoint_dir: Where checkpoints go; None writes none.
        resume: Continue from the newest intact checkpoint there, if any.
        held_out: Demonstrations to evaluate on.
        pretrain: Texts mixed in where `pretrain_fraction` is above 0.
        accelerator: The processes that share the work; all that were launched when None.

    Raises:
        UserError: On data or settings that cannot work.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint.
    """
    accelerator = prepare(model, settings, accelerator)
    rows = rows_of(model, tokenizer, examples, settings, "Example")
    val = rows_of(model, tokenizer, held_out, settings, "Held-out example")
    text = _pretrain_rows(model, tokenizer, pretrain, settings)
    if not rows:
        raise UserError("There are no examples to train on; give at least one.")
    _check_head(model)
    if settings.packing:
        check_packing(model)
    batches = _Batches(rows, text, settings)
    dropout = ResidualDropout(model, settings.dropout, settings.seed)
    job = _SFTJob(model, tokenizer, settings, batches, val, dropout, accelerator)
    digest = hashlib.sha256(repr((rows, text)).encode()).hexdigest()
    try:
        done = fit(
            job,
            model,
            settings,
            batches.steps,
            accelerator=accelerator,
            data_digest=digest,
            log=log,
            checkpoint_dir=checkpoint_dir,
            resume=resume,
        )
    finally:
        dropout.remove()
    val_loss = done.metrics.get("eval/loss", math.nan)
    return SFTResult(done.steps, done.metrics["train/loss"], val_loss, done.seconds, done.resumed_from)


def rows_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[SFTExample],
    settings: TrainSettings,
    what: str,
) -> list[Row]:
    """Tokenise demonstrations; `what` names them in errors, with their number from 1."""
    limit = context_length(model, settings.max_tokens)
    return [
        encode(
            tokenizer,
            example.prompt,
            example.completion,
            max_tokens=limit,
            append_eos=settings.append_eos,
            what=f"{what} {number}",
        )
        for number, example in enumerate(examples, start=1)
    ]


def nll_sum(model: PreTrainedModel, batch: Padded) -> Tensor:
    """Return -sum of log p over the counted tokens of a micro-batch: () nats."""
    hidden = hidden_states(model, batch)[:, :-1]
    counted = batch.targets[:, 1:]
    head = model.get_output_embeddings()
    logprobs = token_logprobs(
        hidden[counted], head.weight, batch.ids[:, 1:][counted], bias=getattr(head, "bias", None)
    )
    return -logprobs.sum()


def _pretrain_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], settings: SFTSettings
) -> list[Row]:
    """Cut pretraining text into rows whose every token (but the first) counts."""
    if settings.pretrain_fraction == 0:
        return []
    limit = context_length(model, settings.max_tokens)
    rows = []
    for text in texts:
        ids = tuple(tokenizer(text).input_ids)
        rows += [Row(ids[i : i + limit], 1) for i in range(0, len(ids), limit) if len(ids) - i >= 2]
    if not rows:
        raise UserError(
            f"pretrain_fraction is {settings.pretrain_fraction}, but there is no pretraining text; give "
            "some or set it to 0."
        )
    return rows


@torch.no_grad()
def _check_head(model: PreTrainedModel) -> None:
    """Refuse models that do more between hidden states and logits than one matrix product."""
    device = next(model.parameters()).device
    ids = torch.arange(4, device=device)[None] % model.config.vocab_size
    batch = pad([[Row(tuple(ids[0].tolist()), 1)]], 0, device)
    expected = (
        model(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False).logits[0, :-1].float()
    )
    nll = -expected.log_softmax(-1).gather(-1, ids[0, 1:, None]).sum()
    if not torch.allclose(nll_sum(model, batch), nll, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise UserError(
            f"A {type(model).__name__} scales or caps its logits, which textrl does not support; use "
            "another model."
        )


class _Batches:
    """Which rows make up each optimizer step: random access, keyed by the seed."""

    def __init__(self, rows: Sequence[Row], text: Sequence[Row], settings: SFTSettings) -> None:
        self.rows, self.text, self.settings = rows, text, settings
        self.total = len(rows) * settings.epochs
        wanted = math.ceil(self.total / (settings.batch_size * (1 - settings.pretrain_fraction)))
        self.steps = min(wanted, settings.max_steps or wanted)

    def at(self, step: int) -> list[Row]:
        """Return the rows of one step; the last of an epoch count may be a smaller batch."""
        size, seed = self.settings.batch_size, self.settings.seed
        text = [math.floor(s * size * self.settings.pretrain_fraction) for s in (step, step + 1)]
        own = [min(s * size - t, self.total) for s, t in zip((step, step + 1), text, strict=True)]
        picked = [self.rows[visit((seed,), i, len(self.rows))] for i in range(*own)]
        return picked + [self.text[visit((seed + 1,), i, len(self.text))] for i in range(*text)]


class _SFTJob:
    """Gradient and evaluation of one SFT run; see `textrl.training.Job`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: SFTSettings,
        batches: _Batches,
        held_out: Sequence[Row],
        dropout: ResidualDropout,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.settings, self.batches = model, settings, batches
        self.held_out, self.dropout, self.accelerator = held_out, dropout, accelerator
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.precision = resolve_precision(settings.precision, accelerator.device)

    def micro_batches(self, rows: Sequence[Row]) -> list[Padded]:
        """Return this process's share of the rows as micro-batches."""
        if self.settings.packing:
            # No longer than the longest row: attention costs the square of a sequence's length.
            sequences = pack(rows, max(len(row.ids) for row in rows))
        else:
            sequences = [[row] for row in rows]
        sequences.sort(key=lambda rows: (-sum(len(row.ids) for row in rows), rows))
        mine = sequences[share(self.accelerator, len(sequences))]
        groups = plan([sum(len(row.ids) for row in rows) for rows in mine], self.settings.micro_batch_tokens)
        return [pad([mine[i] for i in group], self.pad_id, self.accelerator.device) for group in groups]

    def step(self, step: int) -> Mapping[str, float]:
        """Accumulate the gradient of one step."""
        rows = self.batches.at(step)
        count = sum(row.targets for row in rows)  # every process sees the whole batch: already global
        device = self.accelerator.device
        total, tokens = torch.zeros((), dtype=torch.float64, device=device), 0
        for batch in self.micro_batches(rows):
            with self.dropout.active(batch, step), self.precision.autocast(device):
                loss = nll_sum(self.model, batch) / count
            torch.autograd.backward(loss)
            total += loss.detach()
            tokens += int(batch.mask.sum())
        return {"loss": total.item(), "tokens": float(tokens)}

    def report(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Name the figures of a step."""
        return {"train/loss": sums["loss"], "train/tokens": sums["tokens"]}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the held-out loss, nats per response token."""
        if not self.held_out:
            return {}
        total = 0.0
        for batch in self.micro_batches(self.held_out):
            with self.precision.autocast(self.accelerator.device):
                total += nll_sum(self.model, batch).item()
        count = sum(row.targets for row in self.held_out)
        return {"eval/loss": sum_metrics(self.accelerator, {"nll": total})["nll"] / count}
