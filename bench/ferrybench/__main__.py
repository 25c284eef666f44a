"""`bench/run`: picks the rows, measures them, and says what came out."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback

from . import machine, peers, report
from .bench import Bench
from .rows import Row, every_row
from .settings import BINARY, Settings


def arguments(rows: list[Row]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description="hubferry beside its peers on this machine")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these: " + ", ".join(row.name for row in rows))
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--full", dest="mode", action="store_const", const="full", default="default", help="larger and longer")
    modes.add_argument("--quick", dest="mode", action="store_const", const="quick", help="smaller; writes nothing into docs")
    modes.add_argument("--self-check", dest="mode", action="store_const", const="check", help="only whether every row works")
    modes.add_argument("--document", action="store_true", help="measure nothing, write docs/benchmarks.md anew from the last figures")
    parser.add_argument("--work", metavar="DIR", help="where measured files go: memory, unless given or too small")
    parser.add_argument("--list", action="store_true", help="name the rows")
    chosen = parser.parse_args()
    unknown = set(chosen.rows) - {row.name for row in rows}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return chosen


def main() -> int:
    rows = every_row()
    chosen = arguments(rows)
    if chosen.list:
        print("\n".join(f"{row.name:10} {row.title}" for row in rows))
        return 0
    if not BINARY.exists():
        raise SystemExit(f"bench: {BINARY} is not there")
    # So that servers and files go away as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings, versions = Settings(chosen.mode, chosen.work), peers.versions()
    place = machine.describe(settings.work, settings.disk)
    for key, value in {**place, **versions}.items():
        print(f"{key}: {value}")
    failed = [] if chosen.document else measure([row for row in rows if not chosen.rows or row.name in chosen.rows], settings)
    if chosen.mode in ("default", "full"):
        report.write_document(rows, place, versions, {peer.name: peer.settings for peer in peers.ALL})
    for line in failed:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if failed else 0


def measure(rows: list[Row], settings: Settings) -> list[str]:
    """Runs the rows; what broke, if anything did. A broken row keeps its last figures, and the others go on."""
    bench, failed = Bench(settings), []
    try:
        for row in rows:
            begun = time.monotonic()
            stamp = {"mode": settings.mode, "date": report.today(), "commit": machine.commit(), "load": machine.load()}
            print(f"\n{row.name}: {row.title}", flush=True)
            try:
                found = {**row.measure(bench).json(), **stamp}
            except Exception as error:  # One broken row must not cost the others.
                traceback.print_exc()
                failed.append(f"{row.name}: {error!r}")
                continue
            finally:
                bench.end_row()
            report.show(row, found)
            print(f"  {time.monotonic() - begun:.0f} s", flush=True)
            if settings.mode in ("default", "full"):
                report.save(row.name, found)
            elif settings.mode == "check":
                failed += [f"{row.name}: {line}" for line in broken(found)]
    finally:
        bench.close()
    return failed


def broken(found: dict) -> list[str]:
    """For the self-check: peers that failed where nothing should make them fail are a fault of the plumbing."""
    if found["skipped"] or found["columns"][-1] != "result":
        return []
    return [f"{line[0]}: {line[-1]}" for line in found["lines"] if line[-1] != "right"]


if __name__ == "__main__":
    sys.exit(main())
