"""Results kept as JSON, a table on stdout, and docs/benchmarks.md."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from .settings import RESULTS, ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"
NOTES = ROOT / "bench" / "notes.txt"


def save(name: str, found: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def load(name: str) -> dict | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def today() -> str:
    return datetime.date.today().isoformat()


def notes() -> dict[str, str]:
    """Why a budget is missed, by `row/budget`. Written by hand, kept when the document is written anew."""
    lines = NOTES.read_text().splitlines() if NOTES.exists() else []
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
    return {key.strip(): text.strip() for key, text in pairs}


def number(value: float) -> str:
    if value in (float("inf"), float("-inf")):
        return "never"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def budget_line(row: str, budget: dict, why: dict[str, str]) -> str:
    sign = "≤" if budget["at_most"] else "≥"
    line = f"{'met' if budget['met'] else '**missed**'}: {budget['text']}: {number(budget['value'])} (budget {sign} {number(budget['limit'])})"
    if not budget["met"]:
        line += f". Why: {why.get(row + '/' + budget['key'], 'not yet explained.')}"
    return line


def markdown(columns: list[str], lines: list[list[str]]) -> str:
    right = ["---" if i == 0 or column in ("result", "outcome") else "---:" for i, column in enumerate(columns)]
    rows = [columns, right, *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plain(columns: list[str], lines: list[list[str]]) -> str:
    """The same for a terminal."""
    rows = [[cell.replace("**", "") for cell in row] for row in (columns, *lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    return "\n".join("  " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows)


def show(row, found: dict) -> None:
    """One row on stdout."""
    if found["skipped"]:
        print(f"  skipped: {found['skipped']}")
        return
    print(plain(found["columns"], found["lines"]))
    why = notes()
    for budget in found["budgets"]:
        print("  " + budget_line(row.name, budget, why).replace("**", ""))


def write_document(rows, machine: dict[str, str], versions: dict[str, str], settings: dict[str, str]) -> None:
    why = notes()
    text = [INTRODUCTION.rstrip() + "\n\n## Where\n\n"]
    text += [f"- {key}: {value}\n" for key, value in machine.items()]
    text += ["- versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n\nSettings of the peers:\n\n"]
    text += [f"- {name}: {setting}\n" for name, setting in settings.items()]
    results = [(row, load(row.name)) for row in rows]
    text += ["\n## Budgets\n\n", budgets(results)]
    for row, found in results:
        text.append(f"\n## {row.title}\n\n")
        if found is None:
            text.append("Not measured yet.\n")
        elif found["skipped"]:
            text.append(f"Not measured: {found['skipped']}.\n")
        else:
            text.append(section(row, found, why))
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text("".join(text))
    print(f"\nwritten: {Path(DOCUMENT).relative_to(ROOT)}")


def budgets(results) -> str:
    lines = []
    for row, found in results:
        for budget in (found or {}).get("budgets", []):
            sign = "≤" if budget["at_most"] else "≥"
            met = "met" if budget["met"] else "**missed**"
            lines.append([row.title, budget["text"], number(budget["value"]), f"{sign} {number(budget['limit'])}", met])
    return markdown(["row", "figure", "found", "budget", ""], lines)


def section(row, found: dict, why: dict[str, str]) -> str:
    text = found["setting"] + "\n\n" + markdown(found["columns"], found["lines"])
    if found["budgets"]:
        text += "\n" + "".join(f"- {budget_line(row.name, budget, why)}\n" for budget in found["budgets"])
    return text + f"\n`bench/run {row.name}`, {found['mode']} sizes, {found['date']}, hubferry at {found['commit']}, load {found['load']:.1f} at the start.\n"


INTRODUCTION = """
# Benchmarks

Written by `bench/run`; do not edit. Every figure is there, also the bad ones.

Times of one machine mean little elsewhere, so everything is told as a ratio to a peer that ran on the same machine in the same minutes. The
runs are interleaved (A B C A B C …), medians are shown with the least and the most, and what a run left is compared with the right SHA-256 each
time, outside of the measured time. Wall time and processor time (user and system, of the whole tree) include the start of the program; memory
is the peak of the resident set. Requests and bytes of bodies are counted at the server. *hubferry ÷ it* below 1 means that hubferry is better.

A hub needs a hub's API and plain downloaders need URLs, so all of them ask the same place: nginx, which passes API requests on to `hubferry
serve` and gives large objects out itself, straight from the files. Rates are the kernel's, pauses nginx's; faults and moods come from a
small proxy. `hubferry serve` speaks no Xet: hf with hf_xet uses HTTP here, and shows what having it installed costs.
"""
