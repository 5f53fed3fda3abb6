"""`python -m bench [name…] [--quick] [--json FILE]`: run the benchmarks and print their tables."""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

from bench import calls, deliveries, hooks, kills, listing, pages, routing, search, startup, sync, writes

_NOT_QUICK = {"pages"}
_ALL = {
    module.__name__.rpartition(".")[2]: module
    for module in (calls, writes, hooks, kills, listing, startup, pages, routing, deliveries, search, sync)
}


def main() -> int:
    """Run what was asked for. A bound that is missed is printed, not failed: machines differ."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, beside a bare baseline.")
    parser.add_argument(
        "name", nargs="*", choices=[*_ALL, []], help=f"which of {', '.join(_ALL)}; all without"
    )
    parser.add_argument("--quick", action="store_true", help="seconds in all: to see that they run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the reports here as well")
    options = parser.parse_args()
    started = time.monotonic()
    print(f"Python {platform.python_version()}, {platform.system()}; medians of alternating rounds")
    reports = []
    wanted = options.name or [name for name in _ALL if not (options.quick and name in _NOT_QUICK)]
    for name in wanted:
        reports.append(_ALL[name].run(quick=options.quick))
        print(reports[-1].show(), flush=True)
    if options.json:
        options.json.write_text(json.dumps([report.to_json() for report in reports], indent=1) + "\n")
    print(f"\n{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
