"""A cap on what a judge spends, in requests and in money, kept exactly although many requests are under way."""

import threading
from collections.abc import Sequence

from verifiers.arguments import as_number, as_whole
from verifiers.judge.endpoint import Answer, JudgeError


class Spending:
    """Counts every request, retries included, and refuses the one that would pass a cap; safe between threads.

    The cost of a request is known after its answer. Before, it is taken for the largest so far, so the cap on cost is
    passed only where a request costs more than all before it. A request that brought no word from the server may have
    been billed and is counted likewise, as is an answer without its number of tokens.

    Attributes:
        calls: requests made.
        input_tokens: of the requests answered so far.
        output_tokens: of their answers.
    """

    def __init__(
        self,
        max_calls: int | None = None,
        max_cost: float | int | None = None,
        prices: Sequence[float | int] | None = None,
    ) -> None:
        """Set the caps, None for none; `prices` are per million input and output tokens.

        Raises:
            ValueError: a cap or price below zero, or a cap on cost without prices.
            TypeError: one that is no number; a number of requests that isn't whole.
        """
        if prices is not None:
            if isinstance(prices, str) or not isinstance(prices, Sequence) or len(prices) != 2:
                raise ValueError(f"prices is {prices!r}; expected two, per million input and per million output tokens")
            prices = [as_number(f"prices[{i}]", price) for i, price in enumerate(prices)]
        if max_cost is not None and prices is None:
            raise ValueError("max_cost was given without prices; pass prices=(per million input, per million output)")
        self.max_calls = None if max_calls is None else as_whole("max_calls", max_calls, 0)
        self.max_cost = None if max_cost is None else as_number("max_cost", max_cost, infinite=True)
        self.prices = prices
        self.calls = self.input_tokens = self.output_tokens = 0
        self._booked = 0.0
        self._largest = 0.0
        self._silent = 0
        self._answered = 0
        self._under_way = 0
        self._lock = threading.Lock()

    @property
    def blind(self) -> bool:
        """Whether costs are capped while none is known yet: requests then go one by one."""
        return self.max_cost is not None and self._answered == 0

    @property
    def cost(self) -> float:
        """Of all requests that are over, in the currency of the prices."""
        return self._booked + self._silent * self._largest

    def cap(self) -> str:
        """Which cap one more request would pass, "" for none."""
        if self.max_calls is not None and self.calls >= self.max_calls:
            return f"max_calls={self.max_calls}"
        expected = self.cost + (self._under_way + 1) * self._largest
        if self.max_cost is not None and (expected > self.max_cost or self.cost >= self.max_cost):
            return f"max_cost={self.max_cost:g}"
        return ""

    def begin(self) -> str:
        """Count one request; or don't, and say which cap it would pass."""
        with self._lock:
            if cap := self.cap():
                return cap
            self.calls += 1
            self._under_way += 1
            return ""

    def answered(self, answer: Answer) -> None:
        """Book the answer to a request.

        Raises:
            JudgeError: costs are capped, and the server has never said how many tokens it used.
        """
        known = answer.input_tokens is not None and answer.output_tokens is not None
        with self._lock:
            self._under_way -= 1
            if self.max_cost is not None and self._answered == 0 and not known:
                raise JudgeError("the server reports no usage, so max_cost can't be kept; cap max_calls instead")
            self._silent += not known
            self._answered += known
            self.input_tokens += answer.input_tokens or 0
            self.output_tokens += answer.output_tokens or 0
            if self.prices is not None:
                first, second = self.prices
                cost = ((answer.input_tokens or 0) * first + (answer.output_tokens or 0) * second) / 1e6
                self._booked += cost
                self._largest = max(self._largest, cost)

    def failed(self, *, maybe_billed: bool = False) -> None:
        """Book a request that brought no answer."""
        with self._lock:
            self._under_way -= 1
            self._silent += maybe_billed
