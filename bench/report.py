"""What a benchmark hands back, and how it is printed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

Cell = str | float | int


@dataclass(frozen=True)
class Figure:
    """One number, and the bound it should keep, if there is one."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Say whether the bound is kept."""
        if self.bound is None:
            return "for information"
        kept = self.value >= self.bound if self.at_least else self.value <= self.bound
        words = "at least" if self.at_least else "at most"
        return f"{words} {self.bound:g} {self.unit}: {'reached' if kept else 'MISSED'}"


@dataclass
class Report:
    """A table of medians, and the figures drawn from it."""

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def show(self) -> str:
        """Return the report as text."""
        lines = [f"\n{self.name}: {self.title}", *_table(self.columns, self.rows)]
        width = max((len(figure.name) for figure in self.figures), default=0)
        for figure in self.figures:
            number = _text(figure.value)
            lines.append(f"  {figure.name:<{width}}  {number:>8} {figure.unit:<3}  {figure.verdict}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        figures = [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures]
        return {"name": self.name, "title": self.title, "rows": rows, "figures": figures}


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    cells = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if abs(cell) >= 100 or isinstance(cell, int):
        return f"{cell:,.0f}"
    return f"{cell:.2f}"


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(median(values))
