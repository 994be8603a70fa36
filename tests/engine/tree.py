"""What sagas of random shapes have in common: lines of nodes, side by side or in turn."""

from __future__ import annotations

import abc
import random
from typing import Any

from outbox import Saga


class Tree(abc.ABC):
    """A saga of which a subclass makes the nodes."""

    saga: Saga[Any]
    dice: random.Random

    def line(self, depth: int) -> None:
        """One to three nodes, one after the other."""
        for _ in range(self.dice.randrange(1, 4)):
            self.node(depth)

    @abc.abstractmethod
    def node(self, depth: int) -> None:
        """Adds a node, of whatever kind; the greater the depth, the simpler."""

    def parallel(self, name: str, depth: int) -> None:
        """One to three lines side by side."""
        with self.saga.parallel(name) as group:
            for _ in range(self.dice.randrange(1, 4)):
                with group.branch():
                    self.line(depth + 1)

    def choice(self, name: str, depth: int) -> None:
        """One or two lines, of which the first whose turn it is runs, or none."""
        with self.saga.choice(name) as choice:
            for _ in range(self.dice.randrange(1, 3)):
                holds = self.dice.random() < 0.5
                with choice.when(lambda cmd, holds=holds: holds):
                    self.line(depth + 1)
