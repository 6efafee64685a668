"""Frozen weights in a file: the same numbers, and memory only while they are read."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from textrl.errors import UserError
from textrl.models.mapped import MappedWeights
from textrl.models.parking import let_go, park

STATM = Path("/proc/self/status")


def file_memory() -> int:
    """Bytes of mapped files that this process holds."""
    line = next(line for line in STATM.read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    made = GPT2LMHeadModel(GPT2Config(vocab_size=31, n_positions=8, n_embd=16, n_layer=2, n_head=2)).eval()
    return made.requires_grad_(False)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64])
def test_tensors_come_back_as_they_were(kind: torch.dtype, tmp_path: Path) -> None:
    given = [torch.arange(7).to(kind), torch.zeros(0, dtype=kind), torch.arange(12).to(kind).view(3, 4).t()]
    mapped = MappedWeights(given, tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == [], "the file has no name that could be left"
    for _ in range(2):
        for ours, theirs in zip(mapped.tensors, given, strict=True):
            assert torch.equal(ours, theirs)
            assert ours.dtype == kind
        mapped.release()


@pytest.mark.skipif(not STATM.exists(), reason="/proc is Linux's")
def test_memory_is_held_only_while_somebody_reads(tmp_path: Path) -> None:
    weights = torch.ones(8 << 20)
    mapped = MappedWeights([weights], tmp_path)
    mapped.release()
    before = file_memory()
    assert float(mapped.tensors[0].sum()) == weights.numel()
    assert file_memory() - before > 0.9 * weights.nbytes
    mapped.release()
    assert file_memory() - before < 0.1 * weights.nbytes


@pytest.mark.parametrize("precision", ["same", "bf16"])
def test_a_network_on_the_disk_computes_the_same(precision: str) -> None:
    plain, moved, ids = model(), model(), torch.randint(31, (2, 8))
    park(plain, precision=precision, device="same")
    saved = park(moved, precision=precision, device="disk")
    for _ in range(2):
        assert torch.equal(plain(input_ids=ids).logits, moved(input_ids=ids).logits)
        let_go(moved)
    matrices = {id(p): p for p in model().parameters() if p.ndim >= 2}
    assert saved == sum(p.nbytes for p in matrices.values())
    assert moved.lm_head.weight.data_ptr() == moved.transformer.wte.weight.data_ptr() or precision == "bf16"


def test_what_another_network_shares_stays_in_memory() -> None:
    moved = model()
    shared = moved.transformer.h[0].mlp.c_fc.weight
    place = shared.data_ptr()
    park(moved, precision="same", device="disk", keep={id(shared)})
    assert moved.transformer.h[0].mlp.c_fc.weight.data_ptr() == place
    twin = copy.deepcopy(moved)
    assert torch.equal(twin.lm_head.weight, moved.lm_head.weight)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot be kept in .*file.* GB of disk: point TEXTRL_CACHE"):
        MappedWeights([torch.ones(3)], tmp_path / "file")


def test_a_network_that_is_not_on_the_disk_is_left_alone() -> None:
    made = model()
    let_go(made)
    assert made(input_ids=torch.ones(1, 2, dtype=torch.int64)).logits.isfinite().all()
