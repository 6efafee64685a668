"""Models by name and folder; padding; reward models out of policies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
)

from textrl.data.tokenizers import byte_tokenizer
from textrl.errors import UserError
from textrl.models.loading import (
    blocks,
    load_causal_lm,
    load_scorer,
    scorer_from_causal_lm,
    set_padding,
    tiny_gpt2,
)

SMALL = {"width": 16, "layers": 2, "heads": 2, "context": 32, "vocab_size": 300}
pytestmark = pytest.mark.usefixtures("own_cache")


def test_tiny_gpt2_loads_with_transformers_alone(gpt2: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(gpt2), AutoTokenizer.from_pretrained(gpt2)
    assert model.config.vocab_size == len(tokenizer) <= 300
    assert tokenizer.decode(tokenizer("ein Fußball 漢").input_ids) == "ein Fußball 漢"
    ids = tokenizer(["a film", "x"], return_tensors="pt", padding=True)
    out = model.generate(**ids, max_new_tokens=3, do_sample=False)
    assert out.shape[1] <= ids["input_ids"].shape[1] + 3


def test_tiny_gpt2_is_made_once_for_each_set_of_arguments(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    first = tiny_gpt2(**SMALL)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert tiny_gpt2(**SMALL) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert first.parent == tmp_path / "cache" / "models"
    assert tiny_gpt2(["other text"], **SMALL) != first
    other = tiny_gpt2(**{**SMALL, "seed": 1})
    weights = [load_causal_lm(str(path))[0].get_input_embeddings().weight for path in (first, other)]
    assert not torch.equal(*weights)
    assert torch.equal(torch.get_rng_state(), state)
    assert not [path for path in first.parent.iterdir() if path.name.startswith(".")]


def test_a_policy_comes_in_fp32_for_evaluation_with_left_padding(gpt2: Path) -> None:
    AutoModelForCausalLM.from_pretrained(gpt2).bfloat16().save_pretrained(gpt2)
    model, tokenizer = load_causal_lm(str(gpt2))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert tokenizer.padding_side == "left"
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_registered_names_are_found_and_misspelt_ones_corrected() -> None:
    assert load_causal_lm("tiny-gpt2")[0].config.model_type == "gpt2"
    with pytest.raises(UserError, match=r"There is no model 'tiny-gtp2'. Did you mean 'tiny-gpt2'\?"):
        load_causal_lm("tiny-gtp2")


def test_wrong_places_are_named(gpt2: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no model '.*/gpt'. Did you mean '.*/gpt2'\?"):
        load_causal_lm(str(tmp_path / "gpt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no model: config.json is missing"):
        load_causal_lm(str(tmp_path / "empty"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes.txt is a file; name the model's folder or a .gguf file"):
        load_causal_lm(str(tmp_path / "notes.txt"))
    with pytest.raises(UserError, match="There is no model"):
        load_causal_lm(str(tmp_path / "absent.gguf"))


def test_a_folder_named_like_a_hub_id_never_goes_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(UserError, match=r"There is no model 'models/sft'\."):
        load_causal_lm("models/sft")


def test_damaged_and_pickled_weights_are_refused(gpt2: Path) -> None:
    weights = gpt2 / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_causal_lm(str(gpt2))
    weights.unlink()
    torch.save({}, gpt2 / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_causal_lm(str(gpt2))
    weights.write_bytes(whole)
    (gpt2 / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer in '.*' cannot be loaded"):
        load_causal_lm(str(gpt2))


def test_a_damaged_model_in_the_cache_says_how_to_mend_it() -> None:
    folder = tiny_gpt2()
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(
        UserError, match=f"'tiny-gpt2' cannot be loaded .*; delete {folder} to have it made again"
    ):
        load_causal_lm("tiny-gpt2")


def test_a_tokenizer_of_another_model_is_refused(gpt2: Path, tmp_path: Path) -> None:
    other = tiny_gpt2(folder=tmp_path / "other", **{**SMALL, "vocab_size": 270})
    (other / "tokenizer.json").write_bytes((gpt2 / "tokenizer.json").read_bytes())
    with pytest.raises(UserError, match="has 300 tokens, but its model only 270"):
        load_causal_lm(str(other))


def test_code_in_a_model_folder_is_not_run(gpt2: Path, tmp_path: Path) -> None:
    config = (gpt2 / "config.json").read_text()
    hostile = '{"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},'
    config = config.replace("{", hostile, 1).replace('"model_type": "gpt2"', '"model_type": "evil"')
    (gpt2 / "config.json").write_text(config)
    (gpt2 / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_causal_lm(str(gpt2))
    assert not (tmp_path / "ran").exists()


def _tokenizer(eos: str, pad: str | None, special: list[str]) -> tuple[PreTrainedModel, object]:
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer, eos_token=eos)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    if pad is not None:
        tokenizer.pad_token = pad
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=8)
    config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")]
    return GPT2LMHeadModel(config), tokenizer


@pytest.mark.parametrize(
    ("pad", "special", "expected"),
    [
        ("<|pad|>", ["<|end|>"], "<|pad|>"),  # a sound choice is kept
        ("<|eos|>", ["<|end|>"], "<|pad|>"),
        (None, ["<|end|>", "<|reserved_0|>"], "<|pad|>"),
    ],
)
def test_padding_is_not_eos_where_another_token_exists(
    pad: str | None, special: list[str], expected: str, tmp_path: Path
) -> None:
    model, tokenizer = _tokenizer("<|eos|>", pad, special)
    set_padding(model, tokenizer)
    assert tokenizer.pad_token == expected
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (again.pad_token, again.padding_side) == (expected, "left")


def test_a_second_end_token_does_not_become_padding() -> None:
    model, tokenizer = _tokenizer("<|pad|>", None, ["<|end|>", "<|tool|>", "<|reserved_0|>"])
    set_padding(model, tokenizer)
    assert tokenizer.pad_token == "<|reserved_0|>"  # not <|end|>, which is an EOS too


def _scorer_folder(gpt2: Path, path: Path) -> Path:
    model, tokenizer = load_causal_lm(str(gpt2))
    scorer = scorer_from_causal_lm(model, layers=1)
    torch.nn.init.normal_(scorer.score.weight)
    scorer.config.textrl_reward_offset = 0.5
    scorer.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_scorer_copies_the_blocks_and_begins_at_zero(gpt2: Path) -> None:
    model, tokenizer = load_causal_lm(str(gpt2))
    state = torch.get_rng_state()
    scorer = scorer_from_causal_lm(model, layers=None)
    assert torch.equal(torch.get_rng_state(), state)
    assert scorer.config.num_labels == 1
    ids = tokenizer(["a film", "another film"], return_tensors="pt", padding=True)
    assert torch.equal(scorer(**ids).logits, torch.zeros(2, 1))
    ours = scorer.base_model(**ids).last_hidden_state
    assert torch.equal(ours, model.base_model(**ids).last_hidden_state)
    scorer.base_model.wte.weight.data.zero_()
    assert model.base_model.wte.weight.abs().sum() > 0  # nothing is shared
    assert model.config.num_hidden_layers == 2


def test_a_shallow_scorer_is_saved_for_transformers_alone(gpt2: Path, tmp_path: Path) -> None:
    folder = _scorer_folder(gpt2, tmp_path / "rm")
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    scorer, tokenizer = load_scorer(str(folder))
    assert len(blocks(scorer)) == plain.config.num_hidden_layers == 1
    assert scorer.config.textrl_reward_offset == 0.5
    policy = load_causal_lm(str(gpt2))[0]
    for ours, theirs in zip(blocks(scorer)[0].parameters(), blocks(policy)[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # On the right, since GPT-2's own forward counts positions from the padding.
    ids = tokenizer(["a film", "another film"], return_tensors="pt", padding=True, padding_side="right")
    assert ids["attention_mask"][0, -1] == 0
    logits = scorer(**ids).logits
    assert torch.equal(logits, plain(**ids).logits)
    alone = scorer(**tokenizer(["a film"], return_tensors="pt")).logits
    assert logits.abs().min() > 0
    assert torch.allclose(alone[0], logits[0], atol=1e-5)  # padding is known as such


@pytest.mark.parametrize("layers", [0, 3])
def test_a_scorer_deeper_than_the_model_is_refused(gpt2: Path, layers: int) -> None:
    with pytest.raises(
        UserError, match=f"of {layers} layers cannot be made from a model of 2; choose 1 to 2"
    ):
        scorer_from_causal_lm(load_causal_lm(str(gpt2))[0], layers=layers)


def test_a_scorer_keeps_per_layer_settings_in_step() -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, eos_token_id=[7, 8],
    )  # fmt: skip
    assert len(config.layer_types) == 3
    scorer = scorer_from_causal_lm(Qwen3ForCausalLM(config), layers=2)
    assert len(scorer.config.layer_types) == len(blocks(scorer)) == 2
    assert scorer.config.pad_token_id == 7
    assert scorer(torch.tensor([[1, 2, 3]])).logits.item() == 0


def test_what_is_no_reward_model_is_refused(gpt2: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trained score head \(score.weight missing\)"):
        load_scorer(str(gpt2))
    with pytest.raises(UserError, match="it was saved as GPT2ForSequenceClassification"):
        load_causal_lm(str(_scorer_folder(gpt2, tmp_path / "rm")))
    config = BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=16, num_labels=2)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "two")
    with pytest.raises(UserError, match="gives 2 scores; a reward model gives one"):
        load_scorer(str(tmp_path / "two"))


def test_an_encoder_is_a_reward_model_too(gpt2: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=16, num_labels=1)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    load_causal_lm(str(gpt2))[1].save_pretrained(tmp_path / "bert")
    model, tokenizer = load_scorer(str(tmp_path / "bert"))
    assert model(**tokenizer(["a film"], return_tensors="pt")).logits.shape == (1, 1)
