from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import run_folder
from html_tree import Page

from textrl.report import write_report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(write_report(run_folder.write_run(tmp_path_factory.mktemp("whole"))).read_text("utf-8"))


def test_headline_says_the_figures_in_words(page: Page) -> None:
    (sentence,) = [text for attributes, text in page.all("p", "lead")]
    assert sentence == (
        "On 240 prompts it never saw, an independent judge (MiniLM) rates the trained model\u2019s text 1.62 "
        "points higher (95 % interval 1.48 to 1.75) than that of the SFT model, and prefers it on 84\u202f% "
        "(79 to 88\u202f%) of them. The price was 9.6 nats of KL per sequence; perplexity on ordinary text "
        "(NYT editorials) went up by 3.1\u202f%."
    )


def test_tiles_carry_values_intervals_and_targets(page: Page) -> None:
    tiles = [text for _, text in page.all("li", "tile")]
    assert len(tiles) == 5
    assert "+1.62" in tiles[0]
    assert "+1.48 to +1.75" in tiles[0]
    assert "rated 2.5 and more get 1.74" in tiles[0]
    assert "target \u2265 1.5, reached" in tiles[0]
    assert "target \u2264 12, reached" in tiles[2]
    assert "9.1 to 10.2" in tiles[2]
    assert "+2.6 to +3.5\u202f%" in tiles[3]
    assert "7\u202fmin 30\u202fs" in tiles[4]
    assert "32\u202fs of downloads" in tiles[4]


def test_missed_target_is_said(tmp_path: Path) -> None:
    summary = run_folder.summary()
    summary["headline"]["kl_per_sequence"] = 14.2
    page = Page(write_report(run_folder.write_run(tmp_path, summary=summary)).read_text("utf-8"))
    assert any("target \u2264 12, missed" in text for _, text in page.all("li", "tile"))


def test_structure_is_sound(page: Page) -> None:
    assert page.problems == []
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes, _ in page.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("html")[0][0]["lang"] == "en"
    assert page.all("title")[0][1] == "quickstart \u00b7 textrl report"


def test_figures_and_tables_are_described(page: Page) -> None:
    images = [attributes for _, attributes, _ in page.elements if attributes.get("role") == "img"]
    assert len(images) > 20
    assert all(len(attributes["aria-label"]) > 20 for attributes in images)
    # Every drawing is either described or hidden inside something that is.
    for attributes, _ in page.all("svg"):
        nested = "viewbox" in attributes or attributes.get("class") == "mark"
        assert nested or "aria-label" in attributes or attributes.get("aria-hidden") == "true", attributes
    assert all(attributes.get("scope") in ("row", "col") for attributes, _ in page.all("th"))
    assert len(page.all("table")) >= 4
    charts = page.all("figure", "chart")
    assert all(text for _, text in charts)
    assert len(page.all("figcaption")) == len(charts)


def test_curves_that_the_issue_names_are_there(page: Page) -> None:
    titles = [text for _, text in page.all("span", "title")]
    for wanted in (
        "Reward by source",
        "KL to the reference",
        "Entropy",
        "Clip fraction",
        "Value explained variance",
        "Pretraining loss (ptx)",
        "Gradient norm",
        "Speed",
        "Loss",
        "Accuracy",
        "Judge gain against KL",
        "Perplexity of ordinary text against KL",
    ):
        assert any(title.startswith(wanted) for title in titles), wanted
    legend = next(
        text for attributes, text in page.all("figure", "chart") if text.startswith("Reward by source")
    )
    assert all(name in legend for name in ("total", "rm", "kl", "length"))


def test_every_logged_metric_is_drawn(page: Page) -> None:
    titles = " ".join(text for _, text in page.all("figure", "chart"))
    # One plugin's own metric has no recipe and still gets a chart.
    assert "Learning rate" in titles
    assert "Rollout and training disagree" in titles


def test_samples_judges_text_times_and_reproduction(page: Page) -> None:
    assert len(page.all("li", "sample")) == 8
    sides = [text for _, text in page.all("div", "side")]
    assert len(sides) == 16
    assert sides[0].startswith("SFTjudge \u22120.31")
    assert sides[1].startswith("PPO-ptxjudge +2.12")
    text = page.text()
    for wanted in (
        "TF-IDF",
        "Reward model",
        "+2.29",  # the reward model's own gain
        "+0.66",  # the second judge's
        "Distinct-2",
        "a beautifully acted 8\u202f%",
        "8 of 240 prompts",
        "\u22120.087",
        "1\u202fmin 14\u202fs",
        "Downloads, apart",
        "textrl run configs/quickstart.yaml --name quickstart",
        "transformers",
        "kl: 0.04",
        "None of",
    ):
        assert wanted in text, wanted


def test_nothing_is_asked_for_from_outside(tmp_path: Path) -> None:
    folder = run_folder.write_run(tmp_path, samples=run_folder.hostile_samples())
    html = write_report(folder).read_text("utf-8")
    page = Page(html)
    policy = next(
        a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    allowed = {"data:,"} | {f"#{a['id']}" for _, a, _ in page.elements if "id" in a}
    for tag, attributes, _ in page.elements:
        assert tag not in {"script", "img", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}:
                assert value in allowed, (tag, name, value)
            assert "url(" not in value or name == "aria-label"
    css = page.all("style")[0][1]
    assert "url(" not in css
    assert "@import" not in css
    assert "http" not in css


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    folder = run_folder.write_run(tmp_path, samples=run_folder.hostile_samples())
    raw = write_report(folder).read_bytes()
    html = raw.decode("utf-8")  # a lone surrogate would not have been writable
    page = Page(html)
    assert page.problems == []
    shown = [text for _, text in page.all("bdi", "text")]
    assert len(shown) == 16
    assert shown[0] == "<script>document.title='owned'</script>"
    assert shown[2] == "</bdi></style><img src=x onerror=alert(1)>"
    assert "\u202e" not in html
    assert "\u27e8U+202E\u27e9" in shown[4]
    assert "\u27e8U+0000\u27e9" in shown[6]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", html)
    assert "characters more]" in shown[8]
    assert "\u05e9\u05dc\u05d5\u05dd" in shown[10]
    assert shown[12].count("\u0301") <= 4
    assert "lone \ufffd surrogate & \"quotes\" 'single' &amp; &#60;b&#62;" in shown[14]
    assert all(attributes["dir"] == "auto" for attributes, _ in page.all("bdi"))


def test_hostile_names_everywhere_else(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    summary = run_folder.summary()
    summary["title"] = summary["model"] = summary["command"] = evil
    summary["names"] = {"before": evil, "after": evil}
    summary["headline"] |= {"judge": evil, "perplexity_corpus": evil}
    summary["judges"][0] |= {"name": evil, "features": evil}
    summary["text"][evil] = {"before": 1, "after": 2}
    summary["stages"][0]["name"] = evil
    summary["frontier"][0] |= {"arm": evil, "seed": evil}
    row = {"stage": evil, "step": 1, f"reward/{evil}": 1.0, f"train/{evil}": 2.0}
    folder = run_folder.write_run(
        tmp_path, summary=summary, rows=[row], environment={evil: evil, "date": evil}, config=evil
    )
    page = Page(write_report(folder).read_text("utf-8"))
    assert page.problems == []
    assert page.all("script") == []
    assert page.text().count("<script>alert(1)</script>") > 10


def test_the_report_is_light_to_import() -> None:
    code = (
        "import sys, textrl.report; print([m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
