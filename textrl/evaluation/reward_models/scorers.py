"""From a name to scores: a model's folder, several of them, a registered reward, or a judge fitted here.

A decoder reads what it was trained on: the prompt's tokens, the completion's, each tokenised apart, and EOS
where its config says that training put one there (``textrl_append_eos``). Other models read text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from textrl.errors import PluginError, UserError, did_you_mean
from textrl.evaluation.reward_models.comparisons import Text
from textrl.evaluation.statistics import Floats

#: Texts of one batch; a reward makes its own, smaller batches of them.
_BATCH = 256
#: Texts that are asked about alone, and all in vain, before a failure is held to be no single record's.
_MOST_FAILURES = 8
FITTED = ("minilm", "tfidf")


class Scorer(Protocol):
    """Gives every text a score."""

    @property
    def name(self) -> str:
        """For the page."""
        ...

    @property
    def about(self) -> str:
        """What it is, in a few words."""
        ...

    def score(self, texts: Sequence[Text]) -> Iterator[Floats]:
        """Yield scores in pieces that join to (N,)."""
        ...


@dataclass(frozen=True)
class Request:
    """What the user wrote: a name, and perhaps settings as ``NAME {key: value, ...}``."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str) -> Request:
    """Read ``NAME`` or ``NAME {key: value}``.

    Raises:
        UserError: When the braces hold no mapping.
    """
    import yaml

    name, brace, rest = text.partition(" {")
    if not brace or not rest.rstrip().endswith("}"):
        return Request(text.strip())
    try:
        settings = yaml.safe_load("{" + rest)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The settings in '{text}' are not YAML ({reason:.120}).") from error
    if not isinstance(settings, dict):
        raise UserError(f"The settings in '{text}' are no mapping; write NAME {{key: value}}.")
    return Request(name.strip(), {str(key): value for key, value in settings.items()})


def find_scorers(text: str, *, eos: bool | None = None) -> list[Scorer]:
    """Return one scorer, or the members of an ensemble.

    Args:
        text: See `parse`. Names of several folders are joined by commas; a folder without a model of its
            own whose sub-folders hold models is an ensemble of those.
        eos: Whether completions end with EOS; None as the model's config says.

    Raises:
        UserError: When there is nothing of that name, or it cannot score finished texts.
    """
    request = parse(text)
    if not request.name:
        raise UserError("The model's name is empty; give a folder, a hub id or a registered reward.")
    members = [part for name in request.name.split(",") for part in _members(name.strip())]
    return [_scorer(replace(request, name=name), eos) for name in members]


def _members(name: str) -> list[str]:
    folder = Path(name).expanduser()
    if not folder.is_dir() or (folder / "config.json").is_file():
        return [name]
    inner = sorted(str(path) for path in folder.iterdir() if (path / "config.json").is_file())
    return inner or [name]


def _scorer(request: Request, eos: bool | None) -> Scorer:
    from textrl.registry import get_registry

    registry = get_registry()
    rewards = registry.specs("reward")
    is_folder = Path(request.name).expanduser().is_dir()
    if request.name in FITTED and not is_folder and request.name not in rewards:
        return FittedScorer(request.name)
    if request.name in rewards and not is_folder:
        return RewardScorer(request.name, request.settings)
    if not is_folder and "/" not in request.name and request.name not in registry.specs("model"):
        hint = did_you_mean(request.name, [*rewards, *FITTED])
        raise UserError(
            f"'{request.name}' is neither a folder, a hub id nor a registered reward.{hint}"
            f"{registry.excuse()}"
        )
    return model_scorer(request.name, request.settings, eos)


def model_scorer(name: str, settings: Mapping[str, Any], eos: bool | None) -> RewardScorer:
    """Return a scorer of a sequence classifier, through the registered ``reward_model``.

    Raises:
        UserError: When it cannot be loaded.
    """
    from textrl.models.sources import resolve

    folder = resolve(name)
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: config.json cannot be read ({error}).") from error
    ends = bool(config.get("textrl_append_eos", False)) if eos is None else eos
    # The plugin knows whether the model reads ids as they are or wants text of its own; a batch has both.
    given = {"policy_tokenizer": folder, "model": name, **settings}
    scorer = RewardScorer("reward_model", given, shown=name, tokenizer=folder, eos=ends)
    if getattr(scorer.source.reward, "shared", True):
        scorer.about = f"reads the tokens of prompt and completion{', and EOS' if ends else ', no EOS'}"
    elif eos:
        raise UserError(f"--eos does nothing for {name}, which reads whole texts; leave it out.")
    else:
        scorer.about = "reads whole texts"
    return scorer


class RewardScorer:
    """A registered reward; per-token rewards are summed over the completion."""

    def __init__(
        self,
        reward: str,
        settings: Mapping[str, Any],
        *,
        shown: str = "",
        tokenizer: str = "",
        eos: bool = False,
    ) -> None:
        """Build the reward.

        Args:
            reward: Its registered name.
            settings: Of its settings class.
            shown: Its name on the page; the registered one by default.
            tokenizer: Folder of the tokenizer whose ids it reads; plain bytes by default.
            eos: End every completion with EOS.

        Raises:
            UserError: On wrong settings, and for rewards that need a learner.
        """
        from textrl.data.tokenizers import byte_tokenizer, load_tokenizer
        from textrl.registry import get_registry
        from textrl.rewards import Source, build_reward
        from textrl.specs import RewardSpec

        registry = get_registry()
        spec = registry.find("reward", reward)
        assert isinstance(spec, RewardSpec)  # the registry keeps records by kind
        strange = sorted(spec.needs - {"text", "records"})
        if spec.side == "learner" or strange:
            what = strange[0] if strange else "a learner"
            raise UserError(
                f"The reward '{reward}' needs {what}, which finished texts do not have; evaluate a reward "
                "that reads text."
            )
        plugin = registry.owner("reward", reward)
        built = build_reward(spec, settings, plugin=plugin)
        self.source = Source(name=reward, spec=spec, reward=built, plugin=plugin)
        self.tokenizer = load_tokenizer(tokenizer) if tokenizer else byte_tokenizer()
        self.eos, self.ids = eos, bool(tokenizer)
        self.reads_columns = "records" in spec.needs
        self.name = shown or reward
        self.about = spec.summary

    def score(self, texts: Sequence[Text]) -> Iterator[Floats]:
        """Yield the sum of rewards of every text, less padding where lengths are alike.

        Raises:
            UserError: When a text cannot be scored.
        """
        for start in range(0, len(texts), _BATCH):
            yield self._some(texts[start : start + _BATCH])

    def _some(self, texts: Sequence[Text]) -> Floats:
        from textrl.rewards.checks import token_values

        batch = self._batch(texts)
        try:
            values = token_values(self.source, batch)
        except UserError as error:
            text = self._at_fault(texts)
            if text is None:
                raise
            raise type(error)(f"{text}: {error}") from error
        return np.asarray(values.double().sum(dim=1).numpy(), dtype=np.float64)

    def _at_fault(self, texts: Sequence[Text]) -> Text | None:
        """Return the first text whose own record cannot be scored; None where it is not one record's fault.

        The reward speaks of "a record" and knows no lines. Where nothing but failures is met, a column is
        missing everywhere or a server is away, and asking on is of no use.
        """
        from textrl.rewards.checks import token_values

        if not self.reads_columns:
            return None
        failed: list[Text] = []
        scored = False
        for text in texts:
            try:
                token_values(self.source, self._batch([text]))
                scored = True
            except UserError:
                failed.append(text)
            if (scored and failed) or len(failed) == _MOST_FAILURES:
                break
        return failed[0] if scored and failed else None

    def _batch(self, texts: Sequence[Text]) -> Any:
        import torch

        from textrl.protocols import Batch

        rows = [self._row(text) for text in texts]
        width = max(len(prompt) for prompt, _ in rows)
        length = max(len(completion) for _, completion in rows)
        # A model looks ids up before it masks them: 0 is in every vocabulary.
        prompt_ids, response_ids = (
            torch.zeros((len(rows), size), dtype=torch.int64) for size in (width, length)
        )
        prompt_mask, response_mask = (
            torch.zeros((len(rows), size), dtype=torch.bool) for size in (width, length)
        )
        for index, (prompt, completion) in enumerate(rows):
            if prompt:
                prompt_ids[index, -len(prompt) :] = torch.tensor(prompt)
                prompt_mask[index, -len(prompt) :] = True
            response_ids[index, : len(completion)] = torch.tensor(completion)
            response_mask[index, : len(completion)] = True
        return Batch(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            response_ids=response_ids,
            response_mask=response_mask,
            prompt_text=[text.prompt for text in texts],
            text=[text.completion for text in texts],
            # Columns of the texts' own records, as in training: `exact_answer`, say, reads one of them.
            records=[{**text.record, "prompt": text.prompt} for text in texts],
        )

    def _row(self, text: Text) -> tuple[list[int], list[int]]:
        """Return the ids of prompt and completion, the latter at least one."""
        from textrl.batching import encode

        if not self.ids:  # ids only say how long a text is; a text without any byte still has its end
            prompt = list(self.tokenizer(text.prompt, add_special_tokens=False).input_ids)
            tail = list(self.tokenizer(text.completion, add_special_tokens=False).input_ids)
            return prompt, tail or [int(self.tokenizer.eos_token_id)]
        row = encode(
            self.tokenizer,
            text.prompt,
            text.completion,
            max_tokens=10**9,
            append_eos=self.eos,
            what=str(text),
        )
        first = min(row.first, len(row.ids) - 1)
        return list(row.ids[:first]), list(row.ids[first:])


class FittedScorer:
    """One of the evaluation's judges, fitted to people's ratings of other movie snippets."""

    def __init__(self, name: str) -> None:
        """Fit it.

        Raises:
            UserError: When the ratings or a package cannot be had.
        """
        from textrl.data.ratings import movie_splits
        from textrl.evaluation.judges import fit_judges

        splits = movie_splits(0)
        fitted = fit_judges(splits["judge"], splits["judge_test"], names=(name,))[0]
        self._judge = fitted.judge
        self.name = name
        self.about = f"{fitted.judge.features}, fitted to {fitted.report.fitted_on:,} rated movie snippets"

    def score(self, texts: Sequence[Text]) -> Iterator[Floats]:
        """Yield the judge's scores of prompt and completion as one text."""
        for start in range(0, len(texts), _BATCH):
            some = [(text.prompt + text.completion).strip() for text in texts[start : start + _BATCH]]
            yield np.asarray(self._judge.score(some), dtype=np.float64)


def score_all(scorer: Scorer, texts: Sequence[Text], advance: Any = None) -> Floats:
    """Return (N,) finite scores.

    Args:
        scorer: What scores.
        texts: N texts.
        advance: Called with the number of texts that were scored since the last call.

    Raises:
        PluginError: When a score is not finite.
    """
    # Long texts first: memory runs out at once or not at all, and padding is small.
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i].prompt) - len(texts[i].completion))
    parts = []
    for part in scorer.score([texts[index] for index in order]):
        parts.append(part)
        if advance is not None:
            advance(len(part))
    scores = np.empty(len(texts))
    scores[order] = np.concatenate(parts) if parts else np.zeros(0)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        text = texts[int(wrong[0])]
        raise PluginError(
            f"{text} got the score {scores[wrong[0]]} from {scorer.name}; a reward gives finite numbers."
        )
    return scores
