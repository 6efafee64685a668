"""The fallback's sentences: different, rated by VADER, the same for the same seed."""

from __future__ import annotations

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from textrl.data.made import made_reviews


def test_sentences_are_different_and_rated_by_the_rules() -> None:
    made = made_reviews(300, seed=1)
    assert len({one.text for one in made}) == 300
    assert made == made_reviews(300, seed=1)
    assert made[:50] != made_reviews(50, seed=2)
    analyzer = SentimentIntensityAnalyzer()
    assert all(one.mean == 4 * analyzer.polarity_scores(one.text)["compound"] for one in made[:20])
    assert min(one.mean for one in made) < -2
    assert max(one.mean for one in made) > 2
