"""What must be fixed before training begins: the judges, the pretraining stream, the perplexity text."""

from __future__ import annotations

from typing import Any

from textrl.data.corpora import CORPORA, ordinary_passages, ptx_documents
from textrl.models.loading import load_causal_lm
from textrl.pipelines.rlhf.judging import judges_of
from textrl.pipelines.rlhf.stages import Context


def prepare(context: Context) -> dict[str, Any]:
    """Fit the judges and write ``data/ptx.jsonl``, ``data/perplexity.json`` and ``data/judges.json``."""
    data, run, seed = context.settings.data, context.run, context.settings.ppo.seed
    stream = ptx_documents(data.ptx_corpora, seed=seed)
    run.write_jsonl("data/ptx.jsonl", ({"text": text} for text in stream))
    _, tokenizer = load_causal_lm(context.settings.model, registry=context.registry)
    passages = ordinary_passages(
        data.perplexity_corpus, tokenizer, tokens=data.perplexity_tokens, seed=seed, not_in=data.ptx_corpora
    )
    run.write_json("data/perplexity.json", {"name": CORPORA[data.perplexity_corpus], "texts": passages})
    judges = judges_of(context)
    run.write_json("data/judges.json", {fitted.judge.name: fitted.report.plain() for fitted in judges})
    return {"ptx_documents": len(stream), "perplexity_passages": len(passages)}
