"""Writes the parts of the documentation made from the code. `--check` only says whether they are fresh."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from vectable.config.reference import env_example, settings_tables
from vectable.server.metrics.reference import metrics_table

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated: {} -->"


def file_map() -> str:
    """Every module with the first sentence of its docstring, folder by folder."""
    package = ROOT / "src" / "vectable"
    lines: list[str] = []
    for folder in [package, *sorted(p for p in package.rglob("*") if p.is_dir() and p.name != "__pycache__")]:
        files = sorted(folder.glob("*.py"))
        if not files:
            continue
        name = folder.relative_to(package)
        lines += ["", f"**`{'vectable' if folder == package else name.as_posix()}/`**", ""]
        lines += [f"- `{file.name}`: {first_sentence(file)}" for file in files if first_sentence(file)]
    return "\n".join(lines).strip()


def first_sentence(file: Path) -> str:
    """The first paragraph of a module's docstring up to its first full stop, on one line."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    end = paragraph.find(". ")
    return paragraph if end < 0 else paragraph[: end + 1]


def rendered(text: str, name: str, content: str) -> str:
    """`text` with the part between the markers of `name` replaced."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end, 1)[1]}"


def documents() -> dict[Path, str]:
    """The text of every document that is made from the code, in part or as a whole."""
    architecture, configuration = ROOT / "ARCHITECTURE.md", ROOT / "docs" / "configuration.md"
    monitoring = ROOT / "docs" / "monitoring.md"
    return {
        architecture: rendered(architecture.read_text("utf-8"), "file map", file_map()),
        configuration: rendered(configuration.read_text("utf-8"), "settings", settings_tables()),
        monitoring: rendered(monitoring.read_text("utf-8"), "metrics", metrics_table()),
        ROOT / ".env.example": env_example(),
    }


def main() -> int:
    """Writes, or with `--check` compares; 1 when something is stale."""
    made = documents()
    if "--check" in sys.argv:
        return int(any(not file.exists() or file.read_text("utf-8") != text for file, text in made.items()))
    for file, text in made.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
