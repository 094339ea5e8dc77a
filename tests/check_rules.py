"""Rules that pytest itself cannot enforce: where markers stand, and that no test measures time.

Run as `python -m tests.check_rules`; prints every breach with its place and exits with 1 if there is one.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
CLOCKS = {"time", "perf_counter", "process_time", "time_ns", "perf_counter_ns"}
EXCUSES = {"skip", "skipif", "xfail"}


def breaches(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, message) for each rule that one test file breaks."""
    is_system = "system" in path.relative_to(TESTS).parts
    marks = {node.attr: node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_mark(node)}
    if path.name.startswith("test_") and is_system and "system" not in marks:
        yield 1, "tests in tests/system start real processes; set pytestmark = pytest.mark.system"
    if not is_system and "system" in marks:
        yield marks["system"].lineno, "the marker `system` belongs to tests in tests/system"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        if name in CLOCKS and isinstance(node.func.value, ast.Name) and node.func.value.id == "time":
            yield node.lineno, f"time.{name}: tests do not measure time; speed lives in benchmarks/"
        if name in EXCUSES and _is_mark(node.func) and not any(k.arg == "reason" for k in node.keywords):
            yield node.lineno, f"{name} without a reason"


def _is_mark(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Attribute) and node.value.attr == "mark"


def main() -> int:
    found = 0
    for path in sorted(TESTS.rglob("*.py")):
        for line, message in breaches(path, ast.parse(path.read_text(encoding="utf-8"))):
            print(f"{path.relative_to(TESTS.parent)}:{line}: {message}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
