"""One answer while it is written: which token comes next, what the tokens spell, and when it is done."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tuneful.backends.http.chat_completions import REPETITION_STEP
from tuneful.backends.transformers.grammar import Matcher
from tuneful.errors import LMError, LMTimeoutError
from tuneful.wire.request import Sampling
from tuneful.wire.response import Choice, FinishReason, Response, Usage

Decode = Callable[[Sequence[int]], str]


class Writing:
    """One answer.

    Args:
        prompt: tokens of the prompt.
        sampling: how to sample, with a temperature.
        most: most tokens of the answer.
        ends: tokens that end it.
        decode: makes text of tokens.
        model: the model's name.
        timeout_s: seconds for the answer, from when it is begun.
        adapter: adapter that writes it, or None.
        matcher: the grammar that it is held to, or None.
        heard: is told each further piece of text.
        cancelled: is set by whoever does not want it any more.

    Attributes:
        tokens: tokens of the answer so far.
        future: receives the response.
    """

    def __init__(
        self,
        prompt: list[int],
        sampling: Sampling,
        *,
        most: int,
        ends: set[int],
        decode: Decode,
        model: str,
        timeout_s: float,
        adapter: Path | None = None,
        matcher: Matcher | None = None,
        heard: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.prompt, self.adapter, self.most = prompt, adapter, most
        self.tokens: list[int] = []
        self.future: Future[Response] = Future()
        self.cancelled = cancelled or threading.Event()
        self._sampling, self._ends, self._matcher = sampling, ends, matcher
        self._model, self._timeout_s = model, timeout_s
        self._heard = heard
        seed = (sampling.seed or 0) + REPETITION_STEP * sampling.rollout_id + sampling.sample
        self._chance = random.Random(seed)  # of its own, so that no other answer of a batch changes it
        self._speller = _Speller(decode)
        self._text, self._told = "", 0
        self._finish: FinishReason | None = None
        self._stopped = False  # by a stop text
        self._logprobs: list[tuple[str, float]] = []
        self._deadline = float("inf")

    @property
    def plain(self) -> bool:
        """Whether the next token is simply the likeliest one."""
        return not (self._sampling.temperature or self._matcher or self._sampling.logprobs)

    @property
    def over(self) -> bool:
        """Whether nothing is to be written any more."""
        return self._finish is not None or self.cancelled.is_set() or time.monotonic() > self._deadline

    def begin(self) -> bool:
        """Start the clock. Returns whether the answer is still wanted."""
        self._deadline = time.monotonic() + self._timeout_s
        return self.future.set_running_or_notify_cancel()

    # --- one token ---

    def choose(self, scores: Any) -> int:
        """Pick the next token by its scores (a row on the CPU), and take it."""
        allowed = scores if self._matcher is None else self._matcher.restrict(scores)
        token = self._sampled(allowed) if self._sampling.temperature else int(allowed.argmax())
        self.take(token, float(scores.log_softmax(-1)[token]) if self._sampling.logprobs else None)
        return token

    def _sampled(self, scores: Any) -> int:
        import torch

        assert self._sampling.temperature is not None
        shares = torch.softmax(scores.double() / self._sampling.temperature, -1)
        if self._sampling.top_p is not None and self._sampling.top_p < 1:
            ordered, order = shares.sort(descending=True, stable=True)
            kept = order[ordered.cumsum(0) - ordered < self._sampling.top_p]
            shares = torch.zeros_like(shares).index_copy(0, kept, shares[kept])
        mass = shares.cumsum(0)
        return int(torch.searchsorted(mass, self._chance.random() * mass[-1], right=True).clamp(max=len(shares) - 1))

    def take(self, token: int, logprob: float | None = None) -> None:
        """Add a token to the answer."""
        self.tokens.append(token)
        if token in self._ends:
            self._finish = "stop"
        else:
            piece = self._speller.add(token)
            self._text += piece
            if logprob is not None:
                self._logprobs.append((piece, logprob))
            if (self._matcher is not None and self._matcher.advance(token)) or self._cut_at_stop(len(piece)):
                self._finish = "stop"
            elif len(self.tokens) >= self.most:
                self._finish = "length"
        if self._finish and not self._stopped and (rest := self._speller.rest()):
            self._text += rest
            if self._logprobs:
                self._logprobs[-1] = (self._logprobs[-1][0] + rest, self._logprobs[-1][1])
        self._tell()

    def _cut_at_stop(self, new: int) -> bool:
        for stop in self._sampling.stop:
            at = self._text.find(stop, max(0, len(self._text) - new - len(stop)))
            if at >= 0:
                self._text, self._stopped = self._text[:at], True
        return self._stopped

    def _tell(self) -> None:
        """Tell what is certain: what may be the beginning of a stop text is held back."""
        if self._heard is None:
            return
        held = 0 if self._finish else max((_overlap(self._text, stop) for stop in self._sampling.stop), default=0)
        upto = len(self._text) - held
        if upto > self._told:
            self._heard(self._text[self._told : upto])
            self._told = upto

    # --- the end ---

    def settle(self) -> None:
        """Give the future the response, or the reason why there is none."""
        if self._finish is None:
            late = (
                f"`{self._model}` did not finish within {self._timeout_s:g} s. Lower `max_tokens` or raise `timeout_s`."
            )
            gone = LMError(f"`{self._model}` was asked to stop while it answered.", model=self._model)
            self.future.set_exception(gone if self.cancelled.is_set() else LMTimeoutError(late, model=self._model))
            return
        usage = Usage(calls=1, prompt_tokens=len(self.prompt), completion_tokens=len(self.tokens))
        logprobs = tuple(self._logprobs) if self._sampling.logprobs else None
        self.future.set_result(Response((Choice(self._text, self._finish, logprobs),), usage, self._model))


class _Speller:
    """Tokens to text, piece by piece. A token may be a part of a character, or begin with a blank only after others."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._from = self._told = 0

    def add(self, token: int) -> str:
        """Return the text that a token adds; "" while a character is incomplete."""
        self._tokens.append(token)
        piece = self._piece()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._from, self._told = self._told, len(self._tokens)
        return piece

    def rest(self) -> str:
        """Return the text of an incomplete end."""
        return self._piece() if self._told < len(self._tokens) else ""

    def _piece(self) -> str:
        known = self._decode(self._tokens[self._from : self._told])
        return self._decode(self._tokens[self._from :])[len(known) :]


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of a text begin a stop text."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
