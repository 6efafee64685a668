"""The reward model: scores against a forward pass by hand, pooling, sharing of ids, limits."""

import dataclasses

import pytest
import torch
from textrl_reward_model.conformance import tiny_scorer, word_tokenizer
from textrl_reward_model.encoding import same_ids
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from textrl.errors import UserError
from textrl.models.loading import load_scorer, scorer_from_causal_lm
from textrl.models.stack import Trunk
from textrl.registry import get_registry
from textrl.rewards import build_reward
from textrl.testing import make_batch, samples
from textrl.testing.batches import EOS, PAD, VOCAB_SIZE, WORDS

NEEDS = {"text"}


def build(model, **settings):
    return build_reward(get_registry().find("reward", "reward_model"), {"model": str(model), **settings})


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return tiny_scorer(tmp_path_factory.mktemp("scorer") / "model", offset=0.25)


@pytest.fixture(scope="module")
def pad_is_eos(tmp_path_factory):
    return tiny_scorer(tmp_path_factory.mktemp("scorer") / "model", pad=EOS, offset=0.0)


@torch.no_grad()
def by_hand(folder, ids, offset):
    """The score at the last token of one row without padding."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    hidden = model.transformer(torch.tensor([ids])).last_hidden_state
    return float(model.score(hidden[0, -1])) - offset


def expected(folder, offset, *, with_eos):
    """What the kit's episodes are worth: as ids with the EOS action, as text without it."""
    rows = [[*episode.prompt, *episode.response] for episode in samples()]
    rows = rows if with_eos else [[token for token in row if token != EOS] for row in rows]
    return [by_hand(folder, row, offset) for row in rows]


@pytest.mark.parametrize("micro_batch_size", [1, 4, 64])
def test_shared_ids_are_scored_at_the_last_real_token(scorer, micro_batch_size):
    reward = build(scorer, ids="shared", micro_batch_size=micro_batch_size)
    made = make_batch(samples(), NEEDS, extra_left=2, extra_right=3, garbage=0)
    assert reward(made).tolist() == pytest.approx(expected(scorer, 0.25, with_eos=True), abs=1e-5)


@pytest.mark.parametrize("micro_batch_size", [1, 4, 64])
def test_text_is_tokenised_by_the_models_own_tokenizer(scorer, micro_batch_size):
    reward = build(scorer, ids="retokenise", micro_batch_size=micro_batch_size)
    scores = reward(make_batch(samples(), NEEDS)).tolist()
    assert scores == pytest.approx(expected(scorer, 0.25, with_eos=False), abs=1e-5)


def test_the_offset_can_be_left_out(scorer):
    made = make_batch(samples(), NEEDS)
    with_offset, without = build(scorer)(made), build(scorer, use_offset=False)(made)
    assert torch.allclose(without - with_offset, torch.full((6,), 0.25))


def test_a_model_without_offset_has_none(tmp_path, scorer):
    model, tokenizer = load_scorer(str(scorer))
    del model.config.textrl_reward_offset
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert build(tmp_path).offset == 0.0


def test_an_eos_that_is_also_the_pad_token_is_read(pad_is_eos):
    """transformers alone reads one token too early there, which this test also shows."""
    rows = [[*episode.prompt, *episode.response] for episode in samples()]
    assert rows[0][-1] == EOS
    with pytest.warns(UserWarning, match="pads with its EOS token"):
        reward = build(pad_is_eos, ids="shared")
    reward.model.config.pad_token_id = EOS  # load_scorer found another one
    scores = reward(make_batch(samples(), NEEDS))
    assert scores.tolist() == pytest.approx(expected(pad_is_eos, 0.0, with_eos=True), abs=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(pad_is_eos).eval()
    with torch.no_grad():
        naive = float(model(torch.tensor([rows[0]])).logits)
    assert naive == pytest.approx(by_hand(pad_is_eos, rows[0][:-1], 0.0), abs=1e-5)
    assert abs(naive - float(scores[0])) > 1e-3


def test_text_ending_in_the_pad_token_is_read_to_its_end(pad_is_eos):
    with pytest.warns(UserWarning, match="pads with its EOS token"):
        reward = build(pad_is_eos, ids="retokenise", template="{prompt}{response} <eos>")
    rows = [[t for t in (*e.prompt, *e.response) if t != EOS] + [EOS] for e in samples()]
    scores = reward(make_batch(samples(), NEEDS)).tolist()
    assert scores == pytest.approx([by_hand(pad_is_eos, row, 0.0) for row in rows], abs=1e-5)


def test_the_model_is_frozen_and_in_evaluation_mode(scorer):
    reward = build(scorer)
    assert not reward.model.training
    assert not any(p.requires_grad for p in reward.model.parameters())
    # GPT-2 has dropout of 0.1: in training mode two calls would differ.
    made = make_batch(samples(), NEEDS)
    assert torch.equal(reward(made), reward(made))
    assert not reward(made).requires_grad


class TestWhichIds:
    def test_auto_shares_where_the_tokenizers_agree(self, scorer, tmp_path):
        word_tokenizer().save_pretrained(tmp_path / "policy")
        assert build(scorer, policy_tokenizer=str(tmp_path / "policy")).shared
        assert not build(scorer).shared

    def test_auto_retokenises_for_another_vocabulary(self, scorer, tmp_path):
        other = {word: index for index, word in enumerate(reversed(WORDS))}
        backend = Tokenizer(models.WordLevel(other, unk_token="<pad>"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(tmp_path)
        assert not build(scorer, policy_tokenizer=str(tmp_path)).shared
        with pytest.raises(UserError, match="differ, so ids cannot be shared"):
            build(scorer, policy_tokenizer=str(tmp_path), ids="shared")

    def test_two_words_that_changed_places_are_a_difference(self, scorer, tmp_path):
        words = [*WORDS[:-2], WORDS[-1], WORDS[-2]]
        backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        mine = word_tokenizer()
        PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", unk_token="<pad>"
        ).save_pretrained(tmp_path)
        assert not same_ids(str(tmp_path), mine)
        mine.save_pretrained(tmp_path)
        assert same_ids(str(tmp_path), mine)

    def test_a_template_or_chat_needs_text(self, scorer):
        assert not build(scorer, policy_tokenizer=str(scorer), template="Q {prompt} A {response}").shared
        with pytest.raises(UserError, match="drop template and chat"):
            build(scorer, ids="shared", template="Q {prompt} A {response}")

    def test_one_more_special_token_is_no_difference(self, scorer, tmp_path):
        policy = word_tokenizer()
        policy.save_pretrained(tmp_path)
        mine = word_tokenizer()
        mine.add_special_tokens({"additional_special_tokens": ["<own pad>"]})
        assert same_ids(str(tmp_path), mine)
        mine.save_pretrained(tmp_path)
        assert not same_ids(str(tmp_path), word_tokenizer())

    def test_a_missing_policy_tokenizer_is_refused(self, scorer, tmp_path):
        with pytest.raises(UserError, match=r"There is no model '.*nowhere'"):
            build(scorer, policy_tokenizer=str(tmp_path / "nowhere"))
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match=r"The policy's tokenizer '.*empty' cannot be loaded"):
            build(scorer, policy_tokenizer=str(tmp_path / "empty"))

    def test_the_policy_may_be_a_registered_model(self, scorer):
        assert not build(scorer, policy_tokenizer="tiny-gpt2").shared

    def test_ids_that_the_model_does_not_have_are_refused(self, scorer):
        made = make_batch(samples(), NEEDS)
        made.response_ids[0, 0] = VOCAB_SIZE
        with pytest.raises(UserError, match=rf"wrote token {VOCAB_SIZE} .*has {VOCAB_SIZE} tokens"):
            build(scorer, ids="shared")(made)

    def test_such_ids_on_padding_change_nothing(self, scorer):
        made = make_batch(samples(), NEEDS)
        wild = make_batch(samples(), NEEDS)
        wild.response_ids[~wild.response_mask] = 10**6
        wild.prompt_ids[~wild.prompt_mask] = -100
        reward = build(scorer, ids="shared")
        assert torch.allclose(reward(wild), reward(made), atol=1e-6)


class TestLimits:
    def test_a_long_input_is_refused_by_default(self, scorer):
        # The second longest episode has 1 + 9 tokens, the longest 4 + 7.
        with pytest.raises(UserError, match=r"input of row 4 has 11 tokens and .* reads 10; shorten"):
            build(scorer, max_tokens=10)(make_batch(samples(), NEEDS))
        with pytest.raises(UserError, match="input of 12 tokens is longer than the 10"):
            build(scorer, max_tokens=10, ids="shared")(make_batch(samples(), NEEDS))

    def test_the_models_own_limit_counts(self, scorer):
        assert build(scorer).limit == 64
        assert build(scorer, max_tokens=100).limit == 64

    def test_truncation_keeps_the_end_and_is_reported(self, scorer):
        reward = build(scorer, max_tokens=5, too_long="truncate")
        made = make_batch(samples(), NEEDS)
        rows = [[t for t in (*e.prompt, *e.response) if t != EOS][-5:] for e in samples()]
        assert reward(made).tolist() == pytest.approx([by_hand(scorer, r, 0.25) for r in rows], abs=1e-5)
        long = [len([t for t in (*e.prompt, *e.response) if t != EOS]) > 5 for e in samples()]
        assert reward.metrics(made) == {"truncated": sum(long) / len(long)}
        assert build(scorer).metrics(made) == {}


class TestTemplates:
    def test_both_slots_are_filled_once(self, scorer):
        reward = build(scorer, template="the {response} and {prompt}", ids="retokenise")
        made = make_batch(samples(), NEEDS)
        tricky = dataclasses.replace(made, prompt_text=["{response} x"] * 6, text=["good"] * 6)
        texts = [reward.encoder._text(p, t) for p, t in zip(tricky.prompt_text, tricky.text, strict=True)]
        assert texts[0] == "the good and {response} x"

    def test_a_model_brings_the_template_it_was_trained_on(self, tmp_path, scorer):
        model, tokenizer = load_scorer(str(scorer))
        model.config.textrl_template = "the {response} and {prompt}"
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        made = make_batch(samples(), NEEDS)
        reward = build(tmp_path, policy_tokenizer=str(tmp_path))
        assert not reward.shared
        wanted = build(scorer, template="the {response} and {prompt}")(made)
        assert torch.allclose(reward(made), wanted, atol=1e-6)
        assert not torch.allclose(build(tmp_path, template="{response}")(made), wanted, atol=1e-3)
        with pytest.raises(UserError, match="trained on the template"):
            build(tmp_path, ids="shared")

    def test_chat_template(self, tmp_path, scorer):
        model, tokenizer = load_scorer(str(scorer))
        tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} . {% endfor %}"
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        reward = build(tmp_path, chat=True)
        made = make_batch(samples(), NEEDS)
        ids = reward.encoder.rows(made)[0]
        assert [WORDS[i] for i in ids][1:2] == [":"]
        assert reward(made).shape == (6,)
        with pytest.raises(UserError, match="has no chat template"):
            build(scorer, chat=True)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"template": "{prompt}"}, "must contain '{response}'"),
            ({"chat": True, "template": "{response}"}, "give one of them"),
            ({"micro_batch_size": 0}, "micro_batch_size is 0"),
            ({"max_tokens": 0}, "max_tokens is 0"),
            ({"model": ""}, "model is empty"),
            ({"ids": "own"}, "'retokenise'"),
        ],
    )
    def test_contradictory_settings_are_refused(self, scorer, settings, message):
        with pytest.raises(UserError, match=message):
            build(scorer, **settings) if "model" not in settings else build("")


def test_an_empty_text_is_read_as_one_special_token(scorer):
    made = make_batch(samples(), NEEDS)
    empty = dataclasses.replace(made, prompt_text=[""] * 6, text=[""] * 6)
    scores = build(scorer, ids="retokenise")(empty)
    assert scores.tolist() == pytest.approx([by_hand(scorer, [EOS], 0.25)] * 6, abs=1e-5)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        build(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT-type reward model, which reads [CLS] text [SEP] and pools the first token."""
    folder = tmp_path_factory.mktemp("bert")
    cls, sep = "[CLS]", "[SEP]"
    words = {word: index for index, word in enumerate([*WORDS, cls, sep])}
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        num_labels=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
        torch.nn.init.normal_(model.classifier.weight)
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing((sep, words[sep]), (cls, words[cls]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<pad>", cls_token=cls, sep_token=sep
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class TestEncoder:
    def test_scores_are_transformers_own(self, bert):
        reward = build(bert, policy_tokenizer=str(bert), micro_batch_size=4)
        assert not reward.shared
        model = AutoModelForSequenceClassification.from_pretrained(bert).eval()
        cls, sep = VOCAB_SIZE, VOCAB_SIZE + 1
        wanted = []
        for episode in samples():
            row = [cls, *(t for t in (*episode.prompt, *episode.response) if t != EOS), sep]
            with torch.no_grad():
                wanted.append(float(model(torch.tensor([row])).logits))
        assert reward(make_batch(samples(), NEEDS)).tolist() == pytest.approx(wanted, abs=1e-5)

    def test_its_ids_are_never_shared(self, bert):
        with pytest.raises(UserError, match="is an encoder"):
            build(bert, ids="shared")


@pytest.fixture(scope="module")
def policy():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=VOCAB_SIZE,
            n_positions=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
        return GPT2LMHeadModel(config).eval().requires_grad_(False)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("micro_batch_size", [2, 64])
def test_frozen_blocks_that_the_policy_has_too_are_computed_once(policy, tmp_path, filled, micro_batch_size):
    model = scorer_from_causal_lm(policy, layers=2)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    reward = build(tmp_path, ids="shared", micro_batch_size=micro_batch_size)
    made = make_batch(samples(), NEEDS)
    ids = torch.cat([made.prompt_ids, made.response_ids], dim=1)
    mask = torch.cat([made.prompt_mask, made.response_mask], dim=1)
    trunk = Trunk(policy, ids, mask, depths=(2,))
    if filled:
        trunk.output(2)
    alone = reward(made)
    made.memo["trunk"] = trunk
    assert torch.allclose(reward(made), alone, atol=1e-6)
    assert 2 in trunk.hidden
    # Whoever reads these outputs, and does not compute them again, sees that they were changed.
    trunk.hidden[2] = trunk.hidden[2].roll(1, dims=-1)
    assert not torch.allclose(reward(made), alone, atol=1e-3)
