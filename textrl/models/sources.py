"""From a model's name to a folder that transformers can load: registered, local, GGUF or hub."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import socket
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from textrl.data.cache import cache_dir, staged
from textrl.errors import UserError, did_you_mean
from textrl.files import sync
from textrl.models.gguf_reading import parsed_once

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(name: str, registry: Any = None) -> str:
    """Return the local folder of a model, fetching or making it where needed.

    Args:
        name: A registered model, a local folder, a GGUF file, or a hub id ``owner/name``. A name without
            an owner never goes to the hub, where a misspelt one could belong to anybody.
        registry: Where registered names are looked up; the installed plugins by default.

    Raises:
        UserError: When there is no such model.
    """
    from textrl.registry import get_registry

    registered = (registry if registry is not None else get_registry()).specs("model")
    if name in registered:
        return str(registered[name].load()())
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"The folder {path} holds no model: config.json is missing.{_hint(name, ())}")
        return str(path)
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"{path} is a file; name the model's folder or a .gguf file.")
        return str(convert_gguf(path))
    if _HUB_ID.fullmatch(name) and path.suffix != ".gguf" and not Path(path.parts[0]).is_dir():
        return _from_hub(name)
    raise UserError(f"There is no model '{name}'.{_hint(name, registered)}")


def _hint(name: str, registered: Any) -> str:
    """Suggest a registered model or a model folder near the place that `name` points to."""
    near: list[str] = []
    folder = Path(name).expanduser()
    folder = folder if folder.is_dir() else folder.parent
    with contextlib.suppress(OSError):
        near = [
            str(p) for p in sorted(folder.iterdir()) if p.suffix == ".gguf" or (p / "config.json").is_file()
        ]
    known = [*registered, *near]
    return did_you_mean(name, known) if known else ""


def _from_hub(name: str) -> str:
    """Fetch weights, settings and tokenizer (no code, no pickles) unless the hub's cache has them."""
    from huggingface_hub import snapshot_download

    away = _hub_is_away()
    try:
        with quiet_transformers():
            return str(
                snapshot_download(
                    name,
                    allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"],
                    ignore_patterns=["*/*"],
                    local_files_only=away,
                )
            )
    except Exception as error:  # the client raises network, HTTP and file errors of many kinds
        reason = "it cannot be reached, and its cache lacks the model" if away else one_line(error)
        raise UserError(
            f"The model '{name}' cannot be had from the hub ({reason}); check the name and the connection, "
            "or name a local folder, 'smollm2-135m' or 'tiny-gpt2'."
        ) from error


def _hub_is_away() -> bool:
    """Whether the hub cannot be reached: its own client would try for 20 s a file before it says so."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return True
    if urllib.request.getproxies():
        return False
    hub = urlsplit(ENDPOINT)
    try:
        socket.create_connection(
            (hub.hostname, hub.port or (80 if hub.scheme == "http" else 443)), 10
        ).close()
    except OSError:
        return True
    return False


def convert_gguf(gguf: Path, folder: Path | None = None, *, pad_token: str | None = None) -> Path:
    """Dequantise a GGUF file to a folder of fp32 safetensors, once; return the folder.

    Args:
        gguf: The file.
        folder: Where to; by default a folder of the cache keyed by path, size and time of change.
        pad_token: An existing token for padding; by default `set_padding` chooses.

    Raises:
        UserError: When the file is not one that transformers can read, or the disk is full.
    """
    gguf = gguf.resolve()
    if folder is None:
        stat = gguf.stat()
        key = hashlib.sha256(f"{gguf}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:12]
        folder = cache_dir() / "models" / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', gguf.stem)}-{key}"

    def fill(target: Path) -> None:
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        try:
            with parsed_once():
                tokenizer = AutoTokenizer.from_pretrained(**where)
                config = AutoConfig.from_pretrained(**where)  # given to the model, which would read it again
                model = AutoModelForCausalLM.from_pretrained(**where, config=config, dtype=torch.float32)
        except Exception as error:  # gguf and transformers raise whatever a broken byte leads to
            raise UserError(f"The GGUF file {gguf} cannot be read ({one_line(error)}).") from error
        # transformers counts the dequantised model as quantised and would refuse to save it.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.is_quantized = False
        model.hf_quantizer = None
        model.quantization_method = None
        set_padding(model, tokenizer, pad_token)
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        _drop_tokens_from(model.get_input_embeddings().weight.shape[0], target)

    return build_once(folder, fill)


def _drop_tokens_from(rows: int, folder: Path) -> None:
    """Remove special tokens that have no row in the embeddings.

    transformers gives every byte-level GGUF vocabulary GPT-2's <|endoftext|>, whether it has one or not.
    """
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    dropped = {token["content"] for token in tokenizer["added_tokens"] if token["id"] >= rows}
    if not dropped:
        return
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < rows]
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config = {
        key: value for key, value in config.items() if not (isinstance(value, str) and value in dropped)
    }
    file.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def build_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Make the model `folder` by `fill(temporary folder)` and a rename, unless it is there already.

    Raises:
        UserError: When the disk is full or not writable.
    """
    if folder.is_dir():
        return folder
    try:
        with staged(folder) as target:
            with quiet_transformers():
                fill(target)
            target.chmod(0o755)  # a temporary folder and safetensors' files are private to their maker
            for file in target.iterdir():
                file.chmod(0o644)
                sync(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The model folder {folder} could not be written ({one_line(error)}).") from error
    return folder


def set_padding(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pad_token: str | None = None
) -> None:
    """Pad on the left with a token that is not EOS where the vocabulary has one, and record it.

    Where padding and EOS are one token, an EOS that the policy chose looks like padding.

    Raises:
        UserError: When the tokenizer has no token that could serve.
    """
    if pad_token is None and tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        pad_token = _spare_token(model, tokenizer)
    if pad_token is not None:
        tokenizer.pad_token = pad_token
    tokenizer.padding_side = "left"
    tokenizer.init_kwargs["padding_side"] = "left"  # save_pretrained writes these alone
    model.config.pad_token_id = tokenizer.pad_token_id
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def _spare_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    ends: set[int | None] = {tokenizer.eos_token_id}
    for config in (model.config, getattr(model, "generation_config", None)):
        eos = getattr(config, "eos_token_id", None)
        ends |= set(eos) if isinstance(eos, list) else {eos}
    used = ends | {tokenizer.bos_token_id, tokenizer.unk_token_id}
    special = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if t.special and i not in used}

    def rank(token: int) -> tuple[bool, bool, int]:
        text = special[token].lower()
        return "pad" not in text, "reserved" not in text and "unused" not in text, token

    rest = [i for i in (tokenizer.unk_token_id, tokenizer.bos_token_id) if i not in ends]
    found = [*sorted(special, key=rank), *rest, tokenizer.eos_token_id]
    if found[0] is None:
        raise UserError(
            f"The tokenizer of '{tokenizer.name_or_path}' has neither an EOS nor a padding token."
        )
    return str(tokenizer.convert_ids_to_tokens(found[0]))


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and notices off the terminal; errors still raise."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        # The GGUF reader and save_pretrained draw bars that do not ask whether they are wanted.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, without its final stop."""
    text = str(error).strip()
    first = text.splitlines()[0].strip() if text else type(error).__name__
    return first.rstrip(".:")
