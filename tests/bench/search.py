"""Find the highest rate that a server sustains; no I/O."""

from __future__ import annotations


__all__ = ["RateSearch"]


class RateSearch:
    """
    Says which rate to try next, and when it is known well enough.

    Grows by *factor* until a rate is too high (or shrinks until one is held), then
    halves the interval in between, on a logarithmic scale.

    Args:
        start: First rate to try.
        factor: By how much to grow.
        precision: When upper and lower bound are this close, relatively, it is done.
        ceiling: Nothing higher is tried.
    """

    def __init__(
        self,
        start: float,
        factor: float = 1.6,
        precision: float = 0.1,
        ceiling: float = 2e7,
    ) -> None:
        self._factor = factor
        self._precision = precision
        self._ceiling = ceiling
        self._held = 0.0
        self._too_high = 0.0
        self.rate = start

    @property
    def done(self) -> bool:
        """Whether another try would tell nothing worth its time."""
        if self._held >= self._ceiling or 0 < self._too_high < 1:
            return True
        if not self._held or not self._too_high:
            return False
        return self._too_high / self._held <= 1 + self._precision

    def tell(self, held: bool) -> None:
        """Take in whether :attr:`rate` was sustained, and choose the next."""
        if held:
            self._held = max(self._held, self.rate)
        else:
            self._too_high = min(self._too_high or self.rate, self.rate)
        if self._held and self._too_high:
            # Noise can make a rate fail that is below one that was held.
            self._too_high = max(self._too_high, self._held)
            self.rate = (self._held * self._too_high) ** 0.5
        elif self._held:
            self.rate = min(self.rate * self._factor, self._ceiling)
        else:
            self.rate /= self._factor
