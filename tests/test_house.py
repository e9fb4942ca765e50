"""The rooms: no file hides, and no room looks into another's drawers."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [*sorted((ROOT / "ctxblocks").rglob("*.py")), *sorted((ROOT / "plugins").rglob("*.py"))]


def _room(module: str) -> str:
    """`ctxblocks.blocks` of `ctxblocks.blocks.layer`; a plugin in one folder is one room."""
    return ".".join(module.split(".")[:2])


def _imports(path: Path) -> Iterator[tuple[str, str, str]]:
    """The file's own room, the room that it imports from, and the name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    mine = _room(".".join(parts[1:] if parts[0] == "plugins" else parts))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ctxblocks"):
            yield from ((mine, _room(node.module), alias.name) for alias in node.names)


def test_the_project_is_seen() -> None:
    """The tests below look at all of core and plugins."""
    assert len(FILES) > 200
    assert sum(1 for path in FILES for _ in _imports(path)) > 700


def test_no_file_carries_an_underscore() -> None:
    """What is public is said by `__all__`, not by the names of files."""
    assert [str(path) for path in FILES if path.name.startswith("_") and not path.name.startswith("__")] == []


def test_no_room_imports_an_underscore_name_of_another() -> None:
    """Private names stay in their room."""
    crossing = [
        f"{path.relative_to(ROOT)}: {name} of {theirs}"
        for path in FILES
        for mine, theirs, name in _imports(path)
        if name.startswith("_") and not name.startswith("__") and mine != theirs
    ]
    assert crossing == []
