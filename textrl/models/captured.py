"""Decoding whose steps all have one shape, so that a CUDA device can replay them as one graph.

A step of a small model is hundreds of short kernels, and starting each from Python takes longer than
running it. Here every step reads and writes the same places: the store of keys and values, which token goes
in, where it goes, and which places may be looked at. What changes between steps stands in tensors. The first
step of a shape runs as it stands, the second is captured as a graph, all later ones are replays.

Rows that finish leave a smaller shape only when half of them have gone; until then they are written on, and
nobody reads them. A decoder with its graphs is kept for the next rollout of the same model, as long as the
weights stay where they are: an optimizer changes them in place, and a graph reads them where they are.

Shapes: ``N`` rows of the store, ``n`` rows still written, ``C`` capacity in tokens, ``H`` width, ``G``
key-value heads, ``D`` their width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.models.packed import final_norm
from textrl.models.parking import on_disk
from textrl.models.static import StaticDecoder

#: Capacities are rounded up to a multiple of this, so that prompts of other lengths find the same graphs.
ROUND = 64
#: What a step returns: the final states, and outputs of blocks by their number.
Step = tuple[Tensor, dict[int, Tensor]]


class Replayed:
    """A step that reads and writes fixed places.

    Attributes:
        captured: Whether a graph is replayed.
    """

    def __init__(self, device: torch.device) -> None:
        """Do nothing yet; anything but CUDA has no graphs."""
        self._device = device
        self._graph: Any = None
        self._result: Step | None = None
        self._ran = False
        self._refused = device.type != "cuda"

    @property
    def captured(self) -> bool:
        """Whether a graph is replayed."""
        return self._graph is not None

    def __call__(self, compute: Callable[[], Step]) -> Step:
        """Run the step once; what is returned is overwritten by the next call.

        Args:
            compute: The step, the same one each time; it must not wait for the device. It is not kept: what
                it belongs to holds this object.
        """
        if self._ran and self._graph is None and not self._refused:
            self._capture(compute)
        self._ran = True  # the first step lets libraries make their workspaces, which a capture must not
        if self._graph is None or self._result is None:
            return self._without_cache(compute)
        self._graph.replay()
        return self._result

    def _capture(self, compute: Callable[[], Step]) -> None:
        """Record the step without running it; where that cannot be, go on without a graph."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        stream: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        try:
            with (
                torch.cuda.device(self._device),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                self._result = self._without_cache(compute)
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # a capture that fails leaves its own
            self._refused = True
            said = str(error).partition("\n")[0]
            warnings.warn(
                f"A decoding step cannot be captured as a CUDA graph ({said}); it runs without.",
                stacklevel=2,
            )
            return
        self._graph = graph

    def _without_cache(self, compute: Callable[[], Step]) -> Step:
        """Run under the caller's autocast, without its store of converted weights: it outlives no context."""
        on = torch.is_autocast_enabled(self._device.type)
        dtype = torch.get_autocast_dtype(self._device.type)
        with torch.autocast(self._device.type, enabled=on, dtype=dtype, cache_enabled=False):
            return compute()


class CapturedDecoder(StaticDecoder):
    """A decoder whose steps have fixed shapes; see the module, and `textrl.models.decoding.Decoder`."""

    def __init__(
        self, model: PreTrainedModel, rows: int, capacity: int, depths: tuple[int, ...], first: int = 0
    ) -> None:
        """Make the places that a step reads and writes; the store comes with the first keys."""
        super().__init__(model, rows, capacity, depths, first)
        device = model.device
        self._tokens = torch.zeros(rows, dtype=torch.int64, device=device)
        self._places = torch.zeros(rows, dtype=torch.int64, device=device)
        self._slot = torch.zeros(1, dtype=torch.int64, device=device)
        self._readable = torch.zeros(rows, 1, 1, capacity, dtype=torch.bool, device=device)
        self._lent: Tensor | None = None
        self._last = int(model.config.get_text_config().max_position_embeddings) - 1
        self._filled = 0
        self.steps: dict[int, Replayed] = {}

    def prefill(self, ids: Tensor, mask: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n, P) left-padded prompts; return the (n, H) normalised state of the last token."""
        self._filled = 0
        hidden = super().prefill(ids, mask, lent)
        self._places.zero_()
        self._places[: len(ids)] = self._positions
        self._slot.fill_(self.length)
        return hidden

    def step(self, tokens: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n,) tokens; return their (n, H) normalised states, which the next step overwrites."""
        count = len(tokens)
        self._tokens[:count] = tokens
        if lent is not None:
            if self._lent is None:
                self._lent = lent.new_zeros(self.rows, lent.shape[-1])
            self._lent[:count] = lent[:, 0]
        rows = self.rows
        while (rows + 1) // 2 >= count and rows > 1:
            rows = (rows + 1) // 2
        if rows not in self.steps:
            self.steps[rows] = Replayed(tokens.device)
        hidden, seen = self.steps[rows](lambda: self._step(rows))
        self.seen = {depth: state[:count] for depth, state in seen.items()}
        self.length += 1
        return hidden[:count]

    def keep(self, kept: Tensor, moved: Tensor, holes: Tensor) -> None:
        """Go on with fewer rows: only those that fill a hole are copied."""
        for store in (*self._keys, *self._values):
            store[holes, :, : self.length] = store[moved, :, : self.length]
        self._readable[: len(kept)] = self._readable[kept]
        self._places[: len(kept)] = self._places[kept]

    def _step(self, rows: int) -> Step:
        """Run a step of the first rows; nothing here may depend on what the tensors hold."""
        self._readable[:rows].index_fill_(3, self._slot, True)
        places = self._places[:rows]
        layer = iter(range(len(self._keys)))

        def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            index = next(layer)
            keys, values = self._keys[index][:rows], self._values[index][:rows]
            keys.index_copy_(2, self._slot, key[:, :, None].to(keys.dtype))
            values.index_copy_(2, self._slot, value[:, :, None])
            # The query heads of a group stand where the positions of a sequence would: no key is repeated.
            grouped = query.view(rows, key.shape[1], -1, key.shape[2])
            out = torch.nn.functional.scaled_dot_product_attention(
                grouped, keys, values, attn_mask=self._readable[:rows], scale=scale
            )
            return out.reshape(query.shape)

        self.seen = {}
        lent = None if self._lent is None else self._lent[:rows]
        x = self._blocks(self._enter(self._tokens[:rows], places, lent), places, attend, (rows, 1))
        places.add_(1).clamp_(max=self._last)  # rows that left go on counting
        self._slot.add_(1)
        return final_norm(self.model)(x), self.seen

    def _begin(self, mask: Tensor) -> None:
        """Note which places of the prompts hold tokens."""
        rows, width = mask.shape
        self._readable.zero_()
        self._readable[:rows, 0, 0, :width] = mask
        for store in (*self._keys, *self._values):
            store.zero_()  # a place that nobody may look at still enters sums, with weight 0

    def _store(self, key: Tensor, value: Tensor) -> None:
        """Keep the prompt's (n, G, P, D) keys and values of the next block."""
        if self._filled == len(self._keys):
            for store, new in ((self._keys, key), (self._values, value)):
                # In the values' type: rotary embedding leaves keys in fp32 under autocast, and attention
                # would convert all of them at every step.
                shape = (self.rows, new.shape[1], self.capacity, new.shape[3])
                store.append(value.new_zeros(shape))
        for store, new in ((self._keys, key), (self._values, value)):
            store[self._filled][: len(new), :, : new.shape[2]] = new
        self._filled += 1


def capturable(model: PreTrainedModel) -> bool:
    """Return whether steps of a model on a CUDA device can be replayed: its modules always do the same.

    Args:
        model: One that `textrl.models.packed.composable` accepts.
    """
    if on_disk(model):
        return False  # memory of a file cannot be copied inside a graph
    config = model.config.get_text_config()
    ropes = (getattr(config, name, None) for name in ("rope_parameters", "rope_scaling"))
    kinds = [str(rope.get("rope_type", "")) for rope in ropes if isinstance(rope, dict)]
    if any("dynamic" in kind or "longrope" in kind for kind in kinds):
        return False  # looks at the positions, and so waits for the device
    chosen = getattr(config, "_attn_implementation", None) or "sdpa"
    if getattr(model, "is_quantized", False) or not chosen.startswith(("sdpa", "eager", "flash")):
        return False
    # A replay calls no hook.
    return not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


#: The last decoder of each model, while nobody uses it, and what must be the same for its next use.
_KEPT: WeakKeyDictionary[PreTrainedModel, tuple[tuple[Any, ...], CapturedDecoder]] = WeakKeyDictionary()


def release() -> None:
    """Let go of the stores and graphs that are kept, where memory is short."""
    _KEPT.clear()


@contextmanager
def borrow(
    model: PreTrainedModel, rows: int, capacity: int, depths: tuple[int, ...], first: int = 0
) -> Iterator[CapturedDecoder]:
    """Yield a decoder with at least so many rows and so much capacity: the model's last one, if it fits.

    Args:
        model: See `textrl.models.decoding.open_decoder`; so is the rest.
        rows: Prompts.
        capacity: Prompt and response tokens of a row at most.
        depths: Block counts whose outputs ``seen`` shows.
        first: Blocks that another decoder lends.
    """
    key = (depths, first, *_state(model))
    found, decoder = _KEPT.pop(model, (None, None))
    if decoder is None or found != key or decoder.rows < rows or decoder.capacity < capacity:
        decoder = None  # its memory is needed now
        decoder = CapturedDecoder(model, rows, -(-capacity // ROUND) * ROUND, depths, first)
    decoder.model = model
    yield decoder
    del decoder.model  # what is kept for a model must not keep it
    _KEPT[model] = (key, decoder)


def _state(model: PreTrainedModel) -> tuple[Any, ...]:
    """Return what a graph was captured with beside the shapes: where weights are, and what modes are on."""
    kind = model.device.type
    places = tuple(tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()))
    adapters = tuple(
        (part.merged, part.disable_adapters, tuple(part.active_adapters))
        for part in model.modules()
        if hasattr(part, "merged") and hasattr(part, "disable_adapters")
    )
    autocast = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
    return (model.dtype, autocast, torch.is_inference_mode_enabled(), adapters, places)
