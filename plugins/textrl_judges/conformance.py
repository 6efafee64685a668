"""What the conformance kit builds the judges from: tiny models, and an endpoint of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from textrl.models.sources import quiet_transformers
from textrl.testing.batches import WORDS

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def conformance_settings(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return settings for every judge; writes an encoder into `folder` and starts an endpoint."""
    model = str(tiny_classifier(folder / "tiny_classifier"))
    return {
        "classifier": {"model": model, "label": "good", "micro_batch_size": 4},
        "similarity": {"column": "answer", "encoder": model},
        "rule_set": {
            "checks": {
                "short": {"use": "length", "settings": {"max": 6}, "at_least": 0.0, "weight": 2.0},
                "fresh": {"use": "repetition", "settings": {"n": 1}},
            }
        },
        "rubric": {"preset": "safety", "refusal_column": "label"},
        "http_judge": {"url": serve_words(), "batch_size": 4},
    }


def tiny_classifier(folder: Path, *, labels: tuple[str, ...] = ("bad", "good"), seed: int = 0) -> Path:
    """Write a BERT of one layer with random weights, and a tokenizer of the kit's words."""
    names = [*_SPECIAL, *(word for word in WORDS if not word.startswith("<"))]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForSequenceClassification(config)
        # BERT's own 0.02 gives probabilities too close to one half to tell texts apart.
        torch.nn.init.normal_(model.classifier.weight)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def serve(answer: Callable[[Mapping[str, Any]], Any]) -> tuple[str, ThreadingHTTPServer]:
    """Serve JSON on a free port of this machine until the process ends, or the server is shut down.

    Args:
        answer: From the decoded body to what is sent back.

    Returns:
        The address and the server.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.dumps(answer(json.loads(self.rfile.read(length)))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on every request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, name="conformance-endpoint").start()
    return f"http://127.0.0.1:{server.server_address[1]}/score", server


_ENDPOINT: list[str] = []


def serve_words() -> str:
    """Return the address of an endpoint that scores a response by its words; one for the whole process."""
    if not _ENDPOINT:
        _ENDPOINT.append(serve(_count_words)[0])
    return _ENDPOINT[0]


def _count_words(body: Mapping[str, Any]) -> dict[str, list[float]]:
    return {"scores": [len(item["response"].split()) / (1 + len(item["prompt"])) for item in body["items"]]}
