"""Decisions of forwards about sizes of tensors: assumed in a trace, and checked in each run of its graph."""

import operator
from collections.abc import Sequence
from typing import Any

from torch.fx import Node

_SIZES = ("shape", "ndim", "size", "dim", "numel")
"""The attributes and methods of tensors whose values are sizes."""

_ARITHMETIC: set[Any] = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
}  # fmt: skip

_RANK = 3
"""The number of dimensions of a tensor that is assumed at first: those of (batch, tokens, width)."""


class UnforeseenSizesError(Exception):
    """The error for an input whose sizes lead a forward along another branch than its graph has.

    `question` is the number of the decision that differs, and `answer` is the right one.
    """

    def __init__(self, question: int, answer: Any) -> None:
        super().__init__(f"decision {question} about sizes is {answer}")
        self.question, self.answer = question, answer


def require_truth(value: Any, answer: bool, question: int) -> None:
    """Raise UnforeseenSizesError unless a condition on sizes has the truth value with which it was traced."""
    if bool(value) is not answer:
        raise UnforeseenSizesError(question, not answer)


def require_length(sizes: Any, answer: int, question: int) -> None:
    """Raise UnforeseenSizesError unless there are as many sizes as in the trace."""
    if len(sizes) != answer:
        raise UnforeseenSizesError(question, len(sizes))


CHECKS: tuple[Any, ...] = (require_truth, require_length)
"""The functions of nodes that have no users and stay in a graph."""


def are_sizes(node: Node) -> bool:
    """Return True if a node computes a number, a truth value or several numbers only from sizes of tensors."""
    if node.op == "call_method" or node.target is getattr:
        return (node.args[1] if node.target is getattr else node.target) in _SIZES
    return node.target in _ARITHMETIC and bool(node.all_input_nodes) and all(map(are_sizes, node.all_input_nodes))


class Decisions:
    """The answers to the questions about sizes that a forward asks, in order: truth values and lengths.

    The first answers are `given`. Others are guessed, like the last one to such a question.
    """

    def __init__(self, given: Sequence[Any] = ()) -> None:
        self.answers: list[Any] = []
        self._given, self._rank = given, _RANK
        self._truths: dict[str, bool] = {}

    def decide(self, node: Node, check: Any) -> tuple[Any, int]:
        """Return the answer to what a check asks about the value of a node, and the number of the question."""
        number, question = len(self.answers), f"{node.target} {[a for a in node.args if not isinstance(a, Node)]}"
        is_length = check is require_length
        answer: Any = (
            _length(node, self._rank) if is_length else self._truths.get(question, node.target is not operator.ne)
        )
        if number < len(self._given) and type(self._given[number]) is type(answer):
            answer = self._given[number]
        if is_length:
            self._rank = next((r for r in range(9) if _length(node, r) == answer), self._rank)
        else:
            self._truths[question] = answer
        self.answers.append(answer)
        return answer, number


def _length(node: Node, rank: int) -> int:
    """Return the number of sizes in the value of a node, for a tensor with `rank` dimensions."""
    part = node.args[1] if node.target is operator.getitem else slice(None)
    return len(range(rank)[part]) if isinstance(part, slice) else rank
