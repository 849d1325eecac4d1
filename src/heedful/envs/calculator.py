"""`calculator`: sums that are too hard to do in one's head, and a calculator that does them."""

from __future__ import annotations

import ast
import hashlib
import operator
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from heedful.envs.chat import Env, Reply
from heedful.envs.specs import Environment, Split
from heedful.envs.tools import ToolError, tool_env
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
HELD_OUT = 0.15  # of all expressions, by their hash
TASKS = {"train": 1000, "held_out": 200}
MOST = 10**30  # a number that is larger is no answer to a question of ours
OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip


def calculate(expression: str) -> str:
    """Works out an arithmetic expression.

    Args:
        expression: such as 12 * (3 + 4)
    """
    if len(expression) > 200:
        raise ToolError("the expression is longer than 200 characters")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolError(f"'{expression[:40]}' is no arithmetic expression") from None
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    return str(int(value)) if value == int(value) else f"{value:.10g}"


def _value(node: ast.expr) -> float:
    value: float
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = node.value + 0
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        value = OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    else:
        raise ValueError(ast.dump(node)[:40])
    if abs(value) > MOST:
        raise ToolError("the result is too large")
    return value


def right(task: Task, reply: Reply) -> float:
    """1 if the last number of the answer is the right one."""
    numbers = NUMBER.findall(reply.text.replace(",", ""))
    return float(bool(numbers) and float(numbers[-1]) == float(task.facts["answer"]))


@register("environment", "calculator", help="sums of numbers with several digits, and a calculator")
def calculator(*, digits: int = 2, operations: str = "*", tool: bool = True) -> Env:
    """Tasks such as `What is 37 * 48?`: numbers of so many `digits`, joined by one of the `operations` (of +-*).
    `tool=false` takes the calculator away."""
    if not 1 <= digits <= 9 or not operations or set(operations) - set("+-*"):
        raise UserError("calculator: digits are 1 to 9, operations some of +-*")
    env = tool_env(*([calculate] if tool else []), score=right)
    return Environment(
        env, lambda split, seed: list(_tasks(split, seed, digits, operations)), "calculator"
    )


def _tasks(split: Split, seed: int, digits: int, operations: str) -> Iterator[dict[str, Any]]:
    """Different expressions, as many as there are up to `TASKS`."""
    rng = random.Random(f"calculator/{split}/{seed}")
    low, high = 10 ** (digits - 1), 10**digits - 1
    seen: set[str] = set()
    for _ in range(20 * TASKS[split]):
        a, b, sign = rng.randint(low, high), rng.randint(low, high), rng.choice(operations)
        expression = f"{a} {sign} {b}"
        held_out = hashlib.sha256(expression.encode()).digest()[0] < HELD_OUT * 256
        if expression in seen or held_out != (split == "held_out"):
            continue
        seen.add(expression)
        prompt = [{"role": "user", "content": f"What is {expression}?"}]
        yield {"prompt": prompt, "expression": expression, "answer": calculate(expression)}
        if len(seen) == TASKS[split]:
            return
