"""Where a module can be changed so that it still compiles: comparisons, conditions, and/or, numbers, exceptions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """
    One module, changed in one place.

    Attributes:
        text: The whole module.

        change: What stood there, and what stands there now.
    """

    path: Path
    line: int
    text: str
    change: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.change}"


def mutants_of(path: Path, text: str) -> Iterator[Mutant]:
    """Change the module in each place where that is possible, one at a time; annotations and texts stay as they are."""
    lines = text.encode().splitlines(keepends=True)
    for node in _nodes(ast.parse(text)):
        for old, new in _changes(node):
            first, last = old.lineno - 1, old.end_lineno - 1
            before = b"".join(lines[:first]) + lines[first][: old.col_offset]
            after = lines[last][old.end_col_offset :] + b"".join(lines[last + 1 :])
            changed = (before + f"({ast.unparse(new)})".encode() + after).decode()
            yield Mutant(path, old.lineno, changed, f"{ast.unparse(old)} -> {ast.unparse(new)}")


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    # Python 3.11 does not know where a node in an f-string stands.
    if not isinstance(node, ast.JoinedStr):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _nodes(child)


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Compare):
        new = deepcopy(node)
        new.ops[0] = _TURNED[type(node.ops[0])]()
        yield node, new
    elif isinstance(node, ast.BoolOp):
        yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.If | ast.IfExp) and ast.unparse(node.test) != "TYPE_CHECKING":
        for fixed in (True, False):
            yield node.test, ast.Constant(fixed)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield node, ast.Constant(node.value + 1)
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield node.exc.func, ast.Name("ArithmeticError")
