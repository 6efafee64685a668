"""Episodes in progress: what the scalar, the vector and the Stable-Baselines3 environment share.

All three step the same rows, so they cannot disagree about tokens, episode ends or rewards.

Shapes: ``N`` rows, ``P`` prompt tokens (left-padded), ``T`` response tokens (right-padded),
``L = P + T``, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from textrl.errors import PluginError, UserError
from textrl.mdp.task import Prompt, TokenTask
from textrl.protocols import Batch
from textrl.rewards import RewardBreakdown, RewardSum

Observation = dict[str, NDArray[Any]]

#: How far a causal reward may move when later tokens are written; batches of other widths round
#: differently, by about 1e-6 in float32.
CAUSAL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class RowsStep:
    """What one token per row did.

    Attributes:
        rewards: (N,) float64.
        ended: (N,) bool.
        infos: One dict a row; of the finished episode where one ended.
    """

    rewards: NDArray[np.float64]
    ended: NDArray[np.bool_]
    infos: list[dict[str, Any]]


class EpisodeRows:
    """N episodes that are written at the same time.

    Episodes are numbered: a row that starts takes the next unused number (``first_episode``, then
    every ``stride``-th), and the number and the seed alone decide the prompt. Rows that start at the
    same moment take their numbers in row order.
    """

    def __init__(self, task: TokenTask, rows: int, *, first_episode: int = 0, stride: int = 1) -> None:
        """Make room for N episodes; `begin` starts them.

        Raises:
            UserError: When a count is too small.
        """
        if rows < 1:
            raise UserError(f"num_envs is {rows}; give at least 1.")
        if first_episode < 0 or stride < 1:
            raise UserError(
                f"first_episode is {first_episode} and episode_stride {stride}; "
                "give at least 0 for the first and 1 for the second."
            )
        self.task = task
        self.first_episode = first_episode
        self.stride = stride
        self.seed = task.seed
        self.next_episode = first_episode
        self.width = task.max_prompt_tokens
        self.ids = np.full((rows, self.width + task.max_new_tokens), task.pad_id, dtype=np.int64)
        self.mask = np.zeros(self.ids.shape, dtype=np.int8)
        self.lengths = np.zeros(rows, dtype=np.int64)
        self.episodes = np.full(rows, -1, dtype=np.int64)
        self.live = np.zeros(rows, dtype=np.bool_)
        self.prompts: list[Prompt] = [task.prompts[0]] * rows
        self._masks: list[NDArray[np.bool_] | None] = [None] * rows
        causal = [
            source
            for source in (task.rewards.sources if task.rewards is not None else ())
            if source.spec.granularity == "token" and source.spec.causal
        ]
        self._causal = RewardSum(causal) if causal else None
        self._paid = {source.name: np.zeros((rows, task.max_new_tokens)) for source in causal}

    def reseed(self, seed: int) -> None:
        """Start numbering again, with prompts drawn for another seed."""
        if seed < 0:
            raise UserError(f"seed is {seed}; give a number from 0 upwards.")
        self.seed = seed
        self.next_episode = self.first_episode

    def begin(self, rows: Iterable[int], episode: int | None = None) -> None:
        """Start an episode in each of `rows`, which loses the one in progress.

        Args:
            rows: Row indices.
            episode: Number of the first of these episodes; the next unused one when None.
        """
        if episode is not None:
            if isinstance(episode, bool) or not isinstance(episode, int | np.integer) or episode < 0:
                raise UserError(f"options['episode'] is {episode!r}; give a whole number from 0 upwards.")
            self.next_episode = int(episode)
        for row in rows:
            number = self.next_episode
            self.next_episode += self.stride
            prompt = self.task.prompt_for(number, self.seed)
            self.ids[row] = self.task.pad_id
            self.mask[row] = 0
            self.ids[row, self.width - len(prompt.ids) : self.width] = prompt.ids
            self.mask[row, self.width - len(prompt.ids) : self.width] = 1
            self.prompts[row] = prompt
            self.episodes[row] = number
            self.lengths[row] = 0
            self.live[row] = True
            self._masks[row] = None

    def step(self, actions: Any) -> RowsStep:
        """Write one token in every row.

        Args:
            actions: (N,) integers in [0, V).

        Raises:
            UserError: On an action that is no token, or a row whose episode has ended; nothing has
                changed then.
        """
        tokens = self._tokens(actions)
        if not self.live.all():
            raise UserError("The episode has ended or none was started; call reset() before step().")
        infos: list[dict[str, Any]] = [self.info(row) for row in range(len(tokens))]
        if self.task.allowed is not None:
            for row, token in enumerate(tokens.tolist()):
                infos[row]["illegal_action"] = not self.action_mask(row)[token]
        rows = np.arange(len(tokens))
        self.ids[rows, self.width + self.lengths] = tokens
        self.mask[rows, self.width + self.lengths] = 1
        self.lengths += 1
        self._masks = [None] * len(tokens)
        pairs = zip(tokens.tolist(), self.lengths.tolist(), strict=True)
        reasons = [self.task.finish_reason(token, length) for token, length in pairs]
        ended = np.array([reason is not None for reason in reasons])
        self.live[ended] = False
        rewards = np.zeros(len(tokens))
        if self._causal is not None and not ended.all():
            running = np.flatnonzero(~ended)
            self._pay_causal(running, self._causal(self.batch(running)), rewards)
        if ended.any():
            done = np.flatnonzero(ended)
            sums = self._pay_rest(done, self.task.score(self.batch(done)), rewards)
            for index, row in enumerate(done.tolist()):
                infos[row]["finish_reason"] = reasons[row]
                infos[row]["rewards"] = {name: float(values[index]) for name, values in sums.items()}
        return RowsStep(rewards=rewards, ended=ended, infos=infos)

    def _tokens(self, actions: Any) -> NDArray[np.int64]:
        """Check the actions: (N,) int64."""
        tokens = np.asarray(actions)
        count, vocab = len(self.lengths), self.task.vocab_size
        if tokens.size != count or tokens.dtype.kind not in "iu":
            raise UserError(
                f"The action is {tokens.dtype} of shape {tokens.shape}; give {count} "
                f"{'integer' if count == 1 else 'integers'} from 0 to {vocab - 1}."
            )
        tokens = tokens.reshape(count).astype(np.int64)
        bad = np.flatnonzero((tokens < 0) | (tokens >= vocab))
        if bad.size:
            raise UserError(f"The action {tokens[bad[0]]} is no token; give a number from 0 to {vocab - 1}.")
        return tokens

    def batch(self, rows: NDArray[np.intp]) -> Batch:
        """Return what `rows` have written so far, as rewards see it: T is the longest of them."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        ids = torch.from_numpy(self.ids[rows, self.width : self.width + longest])
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None])
        return self.task.batch([self.prompts[row] for row in rows], ids, mask)

    def _pay_causal(
        self, rows: NDArray[np.intp], scored: RewardBreakdown, rewards: NDArray[np.float64]
    ) -> None:
        """Pay the newest token of each row and remember what was said about it."""
        # Read anew every time: a controller may move the weights while an episode runs.
        weights = self.task.rewards.weights if self.task.rewards is not None else {}
        newest = self.lengths[rows] - 1
        for name, paid in self._paid.items():
            values = _numpy(scored.raw[name])[np.arange(len(rows)), newest]
            paid[rows, newest] = values
            rewards[rows] += weights[name] * values

    def _pay_rest(
        self, rows: NDArray[np.intp], scored: RewardBreakdown, rewards: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Pay everything that was not paid yet; return the weighted sum of each source."""
        sums = {}
        newest = self.lengths[rows] - 1
        for name, component in scored.components.items():
            weighted = _numpy(component)
            sums[name] = weighted.sum(axis=1)
            if name in self._paid:
                self._check_causal(name, rows, _numpy(scored.raw[name]))
                rewards[rows] += weighted[np.arange(len(rows)), newest]
            else:
                rewards[rows] += sums[name]
        return sums

    def _check_causal(self, name: str, rows: NDArray[np.intp], raw: NDArray[np.float64]) -> None:
        """Refuse a source that changed its mind about tokens it has paid for.

        Raises:
            PluginError: Naming the source.
        """
        paid = self._paid[name][rows, : raw.shape[1]]
        earlier = np.arange(raw.shape[1]) < (self.lengths[rows] - 1)[:, None]
        moved = earlier & (np.abs(raw - paid) > CAUSAL_TOLERANCE * (1 + np.abs(paid)))
        if moved.any():
            row, position = np.argwhere(moved)[0]
            raise PluginError(
                f"The reward '{name}' declares itself causal but paid {paid[row, position]:.6g} for token "
                f"{position} and gives {raw[row, position]:.6g} now that later tokens stand; "
                "declare it causal=False."
            )

    def info(self, row: int) -> dict[str, Any]:
        """Return what `reset` and every `step` say about a row."""
        return {"episode_index": int(self.episodes[row])}

    def observation(self, row: int | None = None) -> Observation:
        """Return a copy of the observation of one row, (L,), or of all rows, (N, L)."""
        rows: int | slice = slice(None) if row is None else row
        return {"input_ids": self.ids[rows].copy(), "attention_mask": self.mask[rows].copy()}

    def response(self, row: int) -> list[int]:
        """Return the tokens written so far."""
        tokens: list[int] = self.ids[row, self.width : self.width + self.lengths[row]].tolist()
        return tokens

    def action_mask(self, row: int) -> NDArray[np.bool_]:
        """Return a copy of the mask of what one row may write next: (V,) bool."""
        # Kept until the row moves on: a policy asks before the step and the step looks again.
        mask = self._masks[row]
        if mask is None:
            mask = self._masks[row] = self.task.action_mask(self.prompts[row], self.response(row))
        return mask.copy()

    def text(self, row: int) -> str:
        """Return prompt and response as text, with a bar between them."""
        prompt = self.prompts[row]
        return f"{prompt.text or self.task.decode(prompt.ids)}|{self.task.decode(self.response(row))}"


def token_spaces(task: TokenTask) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """Return the observation and the action space of one row."""
    length = (task.max_prompt_tokens + task.max_new_tokens,)
    observation = spaces.Dict(
        input_ids=spaces.Box(0, task.vocab_size - 1, length, np.int64),
        attention_mask=spaces.Box(0, 1, length, np.int8),
    )
    return observation, spaces.Discrete(task.vocab_size)


def check_options(options: dict[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """Return reset's options, refusing names that would be ignored.

    Raises:
        UserError: On an unknown option.
    """
    for name in options or {}:
        if name not in known:
            raise UserError(f"reset() has no option '{name}'; it takes {', '.join(known)}.")
    return options or {}


def _numpy(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()
