"""Reading prompts: every source, and every defect with its place and remedy in one sentence."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from textrl.data.prompts import CHUNK, read_prompts
from textrl.data.tokenizers import byte_tokenizer, train_byte_bpe
from textrl.errors import UserError
from textrl.mdp.task import Prompt

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
ROWS = [{"prompt": "Good day", "answer": 4}, {"prompt": "naïve 東京", "answer": None}]


def read(source: Any, limit: int = 64, **options: Any) -> list[Prompt]:
    return read_prompts(source, byte_tokenizer(), max_prompt_tokens=limit, **options)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    tokenizer = train_byte_bpe([], 258, tmp_path_factory.mktemp("chat") / "tokenizer")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
    return path


def write_gzip(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(gzip.compress(b"\n".join(json.dumps(row).encode() for row in rows)))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_saved_dataset(path: Path, rows: list[dict[str, Any]]) -> Path:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


def write_saved_splits(path: Path, rows: list[dict[str, Any]]) -> Path:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(path))
    return path


def write_folder(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.mkdir()
    write_jsonl(path / "train.jsonl", rows)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", write_jsonl),
        ("a.jsonl.gz", write_gzip),
        ("a.parquet", write_parquet),
        ("saved", write_saved_dataset),
        ("splits", write_saved_splits),
        ("folder", write_folder),
    ],
)
def test_every_source_gives_the_same_prompts(
    name: str, write: Callable[[Path, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / name, ROWS)
    for source in (path, str(path)):
        prompts = read(source)
        assert prompts == read(ROWS)
        assert [p.text for p in prompts] == ["Good day", "naïve 東京"]
        assert [p.record["answer"] for p in prompts] == [4, None]
        assert all(byte_tokenizer().decode(p.ids) == p.text for p in prompts)


def test_lists_of_strings_and_of_other_columns() -> None:
    assert [p.text for p in read(["a", "b"])] == ["a", "b"]
    assert read(["a"])[0].record == {"prompt": "a"}
    assert [p.text for p in read([{"question": "why?"}], column="question")] == ["why?"]
    assert [p.text for p in read(("a",))] == ["a"]


def test_messages_go_through_the_chat_template(chat: PreTrainedTokenizerBase) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    for source in ([messages], [{"prompt": messages}], [{"messages": messages}]):
        (got,) = read_prompts(source, chat, max_prompt_tokens=64)
        assert got.text == "[user]Hi[assistant]"
        assert chat.decode(got.ids) == got.text
    (mixed, plain) = read_prompts([messages, "Hi"], chat, max_prompt_tokens=64)
    assert (mixed.text, plain.text) == ("[user]Hi[assistant]", "Hi")


def test_the_template_writes_the_special_tokens_and_the_tokenizer_does_otherwise(
    tmp_path: Path,
) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_byte_bpe([], 258, tmp_path / "tokenizer")
    eos = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|eos|> $A", special_tokens=[("<|eos|>", eos)]
    )
    tokenizer.chat_template = TEMPLATE
    plain, messages = read_prompts(
        ["Hi", [{"role": "user", "content": "Hi"}]], tokenizer, max_prompt_tokens=64
    )
    assert plain.ids == (eos, *byte_tokenizer()("Hi").input_ids)
    assert messages.ids == tuple(byte_tokenizer()("[user]Hi[assistant]").input_ids)


def test_a_byte_order_mark_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n   \n{"prompt": "b"}')
    assert [p.text for p in read(path)] == ["a", "b"]


def test_many_prompts_keep_their_order() -> None:
    texts = [f"prompt {i}" for i in range(2 * CHUNK + 3)]
    prompts = read(texts)
    assert [p.text for p in prompts] == texts
    assert all(byte_tokenizer().decode(p.ids) == p.text for p in prompts)


GOOD = b'{"prompt": "fine"}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "p.jsonl: the file is empty; write one JSON object a line"),
        (b"\n \n", "p.jsonl: the file is empty"),
        (GOOD + b"not json\n", r"p.jsonl, line 2: the line is not JSON \(Expecting value at column 1\)"),
        (GOOD + b"\n\n" + b'{"prompt": "cut', "p.jsonl, line 4: the line is not JSON"),
        (b'["a"]\n', "p.jsonl, line 1: the line is not a JSON object"),
        (b'"a"\n', "line 1: the line is not a JSON object"),
        (b"[" * 100_000 + b"\n", "line 1: the line is JSON that cannot be read"),
        (b'{"prompt": ' + b"9" * 5000 + b"}\n", "line 1: the line is JSON that cannot be read"),
        (GOOD + b'{"promt": "a"}\n', r"p.jsonl, line 2: there is no column 'prompt'. Did you mean 'promt'\?"),
        (b'{"a": 1, "b": 2}\n', "there is no column 'prompt'. Known: a, b."),
        (b"{}\n", "line 1: there is no column 'prompt'"),
        (GOOD * 2 + b'{"prompt": "caf\xe9"}\n', r"p.jsonl, line 3: byte 16 \(0xe9\) is not valid UTF-8"),
        (GOOD + b'{"prompt": "a\x00b"}\n', "p.jsonl, line 2: byte 14 is NUL"),
        (
            '{"prompt": "a"}\n'.encode("utf-16"),
            r"line 1: byte \d+ is NUL; the file is binary, damaged or UTF-16",
        ),
        (b'{"prompt": "a\\u0000b"}\n', r"line 1: the text holds a NUL character \(\\u0000\) at 1"),
        (b'{"prompt": "a\\ud800b"}\n', r"line 1: the text holds half of a surrogate pair \(\\ud800\) at 1"),
        (GOOD + b'{"prompt": ""}\n', "p.jsonl, line 2: the prompt is empty"),
        (b'{"prompt": " \\t\\n"}\n', "line 1: the prompt is empty"),
        (b'{"prompt": 3}\n', "line 1: 'prompt' is a number; it must be a string or a list of messages"),
        (b'{"prompt": null}\n', "'prompt' is null"),
        (b'{"prompt": true}\n', "'prompt' is a boolean"),
        (b'{"prompt": {"text": "a"}}\n', "'prompt' is an object"),
        (b'{"prompt": []}\n', "'prompt': the list of messages is empty"),
        (
            b'{"prompt": ["a"]}\n',
            "'prompt': message 0 is 'a'; give a mapping with the strings 'role' and 'content'",
        ),
        (b'{"prompt": [{"role": "user"}]}\n', "message 0 is {'role': 'user'}"),
        (b'{"prompt": [{"role": "user", "content": 3}]}\n', "message 0 is"),
        (b'{"prompt": [{"role": "user", "content": "a"}]}\n', "the tokenizer has no chat template"),
        (
            b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
            "'messages': the last message is the assistant's answer",
        ),
        (
            GOOD * 4 + b'{"prompt": "' + b"x" * 65 + b'"}\n',
            "p.jsonl, line 5: the prompt has 65 tokens, more than the 64 allowed; shorten it or raise max",
        ),
    ],
)
def test_defects_of_a_file_are_named_with_their_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))


def test_a_prompt_of_exactly_the_limit_is_accepted() -> None:
    assert len(read(["x" * 64])[0].ids) == 64
    with pytest.raises(UserError, match=r"^prompts\[1\]: the prompt has 65 tokens"):
        read(["x", "x" * 65])


def test_templates_that_raise_are_named(chat: PreTrainedTokenizerBase) -> None:
    with pytest.raises(
        UserError, match=r"^prompts\[0\]: 'prompt': the tokenizer's chat template refuses .*no system role"
    ):
        read_prompts([[{"role": "system", "content": "x"}]], chat, max_prompt_tokens=9)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "The list of prompts holds no prompts"),
        ([3], r"prompts\[0\]: a prompt is a string, a record or a list of messages, not a number"),
        (["a", None], r"prompts\[1\]: .* not null"),
        ([b"bytes"], r"prompts\[0\]: .* not a bytes"),
        ([{"prompt": b"bytes"}], r"prompts\[0\]: 'prompt' is a bytes"),
        ("", "'' is not the name of a file"),
        ("a\x00b", "is not the name of a file"),
    ],
)
def test_defects_of_a_list(source: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read(source)


def test_the_limit_itself_is_checked() -> None:
    with pytest.raises(UserError, match="max_prompt_tokens is 0"):
        read(["a"], limit=0)


def test_files_that_are_not_there_or_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "prompts.jsonl", ROWS)
    with pytest.raises(
        UserError, match=r"prompt.jsonl: there is no such file. Did you mean 'prompts.jsonl'\?"
    ):
        read(tmp_path / "prompt.jsonl")
    with pytest.raises(UserError, match=r"there is no such file.$"):
        read(tmp_path / "zzz.parquet")
    with pytest.raises(UserError, match=r"nowhere.jsonl: there is no such file. Nor can the folder"):
        read(tmp_path / "no" / "nowhere.jsonl")
    for name in ("Once upon a time", "a/b/c", "../x", ".hidden"):
        with pytest.raises(UserError, match=rf"^{name}: there is no such file"):
            read(name)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"notes.txt: the format is not known by its name; give a .jsonl"):
        read(tmp_path / "notes.txt")


def test_damaged_files(tmp_path: Path) -> None:
    whole = write_gzip(tmp_path / "a.jsonl.gz", ROWS * 500).read_bytes()
    for name, content in [
        ("cut", whole[: len(whole) // 2]),
        ("plain", b'{"prompt": "a"}\n'),
        ("bad", whole[:40] + b"?" * 40),
    ]:
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}.jsonl.gz: the file is damaged or not gzip"):
            read(path)
    table = write_parquet(tmp_path / "a.parquet", ROWS).read_bytes()
    for name, content in [("cut", table[: len(table) // 2]), ("text", b"hello"), ("none", b"")]:
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}.parquet: the parquet file cannot be read after row 0"):
            read(path)
    empty = tmp_path / "empty.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": pyarrow.array([], pyarrow.string())}), empty)
    with pytest.raises(UserError, match=r"empty.parquet: the file has no rows"):
        read(empty)


def test_defects_of_a_table_are_named_with_their_row(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"prompt": "a"}, {"prompt": None}])
    with pytest.raises(UserError, match=r"a.parquet, row 2: 'prompt' is null"):
        read(path)
    with pytest.raises(
        UserError, match=r"a.parquet, row 1: there is no column 'Prompt'. Did you mean 'prompt'\?"
    ):
        read(path, column="Prompt")


def test_defects_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    splits = write_saved_splits(tmp_path / "splits", ROWS)
    with pytest.raises(UserError, match=r"splits: the dataset has no split 'trian'. Did you mean 'train'\?"):
        read(splits, split="trian")
    with pytest.raises(UserError, match=r"splits, split train, row 1: there is no column 'text'"):
        read(splits, column="text")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing: there is no such file, and no such dataset can be loaded"):
        read(tmp_path / "nothing")


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "a.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"reading parquet needs pyarrow; run pip install 'textrl-mdp\[datasets\]'"
    ):
        read(path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"needs the package datasets; run pip install 'textrl-mdp\[datasets\]'"
    ):
        read("someone/something")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_prompts_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    try:
        prompts = read(path)
    except UserError as refused:
        message = str(refused)
    else:
        message = ""
        assert prompts
    assert message == "" or message.startswith(str(path))
    assert "\n" not in message
