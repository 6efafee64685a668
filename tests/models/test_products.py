"""Which kernel multiplies: whichever it is, the product and its gradients are the same."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from textrl.mdp.logprobs import token_logprobs
from textrl.mdp.token_loss import token_loss
from textrl.models import products
from textrl.models.products import by_onednn, head_logits, multiply, project

#: 300 rows of 256 by 320: large.
ROWS, INPUTS, OUTPUTS = 300, 256, 320


@pytest.fixture(params=[False, True], ids=["plain", "avx512"])
def avx512(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor counts as one with AVX-512; oneDNN's product runs on any."""
    if request.param and not products._has_onednn():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "_has_avx512", lambda: request.param)
    return bool(request.param)


def layer(kind: str, bias: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "Conv1D":
        made: torch.nn.Module = Conv1D(OUTPUTS, INPUTS)
        torch.nn.init.normal_(made.get_parameter("bias"))
        return made
    return torch.nn.Linear(INPUTS, OUTPUTS, bias=bias)


def gradients(module: torch.nn.Module, x: torch.Tensor, out: torch.Tensor) -> list[torch.Tensor]:
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return list(torch.autograd.grad(out, [x, *module.parameters()], cotangent.to(out.dtype)))


@pytest.mark.parametrize(("kind", "bias"), [("Linear", True), ("Linear", False), ("Conv1D", True)])
def test_large_products_and_their_gradients_are_those_of_float64(kind: str, bias: bool, avx512: bool) -> None:
    module = layer(kind, bias)
    x = torch.randn(ROWS, INPUTS, requires_grad=True)
    assert by_onednn(x, OUTPUTS) == avx512
    found = project(module, x)
    assert ("_Product" in type(found.grad_fn).__name__) == avx512
    by_ours = gradients(module, x, found)
    exact = layer(kind, bias).double()
    wide = x.detach().double().requires_grad_()
    expected = exact(wide)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(by_ours, gradients(exact, wide, expected), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)
        assert ours.is_contiguous()  # else it is copied once more beside its parameter


def test_scoring_and_learning_multiply_alike(avx512: bool) -> None:
    module, x = layer("Conv1D"), torch.randn(ROWS, INPUTS)
    with torch.no_grad():
        scored = project(module, x)
    assert torch.equal(project(module, x), scored)


def test_only_what_wants_a_gradient_gets_one(avx512: bool) -> None:
    module = layer("Linear").requires_grad_(False)
    x = torch.randn(ROWS, INPUTS, requires_grad=True)
    torch.autograd.backward(project(module, x).sum())
    assert x.grad is not None
    assert module.weight.grad is None
    learns = layer("Linear")
    torch.autograd.backward(project(learns, torch.randn(ROWS, INPUTS)).sum())
    assert learns.weight.grad is not None


def test_other_types_and_small_products_are_left_to_torch(avx512: bool) -> None:
    x = torch.randn(ROWS, INPUTS)
    assert not by_onednn(x.double(), OUTPUTS)
    assert not by_onednn(x.bfloat16(), OUTPUTS)
    assert not by_onednn(x[:64], 256)
    assert not by_onednn(torch.randn(4096, 64), 1024)
    assert not by_onednn(x.view(2, -1, INPUTS), OUTPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        assert not by_onednn(x, OUTPUTS)


def test_losses_of_an_embedding_are_those_of_float64(avx512: bool) -> None:
    torch.manual_seed(2)
    hidden, weight = torch.randn(ROWS, INPUTS), torch.randn(OUTPUTS, INPUTS) / 16
    targets = torch.randint(OUTPUTS, (ROWS,))

    def run(kind: torch.dtype, learns: bool) -> list[torch.Tensor]:
        h, w = hidden.to(kind).requires_grad_(), weight.to(kind).requires_grad_(learns)
        loss, _ = token_loss(h, w, targets, lambda logprobs, _: logprobs.square().sum())
        again = token_logprobs(h, w, targets)
        wanted = [h, w] if learns else [h]
        return [*torch.autograd.grad(loss, wanted), *torch.autograd.grad(again.sum(), wanted)]

    for learns in (True, False):
        for ours, exact in zip(run(torch.float32, learns), run(torch.float64, learns), strict=True):
            torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)


def test_few_rows_give_the_same_products() -> None:
    conv, linear, x = Conv1D(5, 16), torch.nn.Linear(16, 5), torch.randn(3, 16)
    assert not by_onednn(x, 5)  # a gradient is wanted
    with torch.no_grad():
        assert by_onednn(x, 5)
        torch.testing.assert_close(project(conv, x), conv(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(project(linear, x), linear(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(multiply(x, linear.weight), x @ linear.weight.T, rtol=1e-5, atol=1e-6)
        logits = head_logits(x, linear.weight, linear.bias, 0.5)
    torch.testing.assert_close(logits, linear(x).detach() / 0.5, rtol=1e-5, atol=1e-6)


def test_a_hook_on_a_projection_is_heard() -> None:
    linear = torch.nn.Linear(4, 2)
    heard = []
    linear.register_forward_hook(lambda *_: heard.append(1))
    with torch.no_grad():
        project(linear, torch.randn(2, 4))
    assert heard == [1]


def test_a_kernel_that_cannot_be_made_is_another_s_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> torch.Tensor:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", fails)
    linear, x = torch.nn.Linear(16, 5), torch.randn(3, 16)
    with torch.no_grad():
        assert torch.equal(project(linear, x), linear(x))


def test_a_frozen_weight_needs_no_input_again(avx512: bool) -> None:
    module, kept = layer("Linear").requires_grad_(False), []
    x = torch.randn(ROWS, INPUTS, requires_grad=True)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        project(module, x)
    assert x.shape not in kept
