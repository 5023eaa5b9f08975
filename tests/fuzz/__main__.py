"""`python -m tests.fuzz --cases 5000 --seed 1` prints the classes of outcome per target, and each fault."""

import argparse
import faulthandler
import sys
import tempfile
import time
from pathlib import Path

from .driver import LOADING, forbidden, new_driver, outcome_table, targets_of
from .mutation import ALLOWED, FORBIDDEN
from .world import COMMANDS


def main() -> None:
    """Run the cases; exit code 1 if one of them shows a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=300, help="number of cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other cases")
    parser.add_argument("--case", type=int, help="run only this case, and show how it ends")
    parser.add_argument("--loading", action="store_true", help="only load models whose files are damaged")
    parser.add_argument("--commands", nargs="+", default=sorted(COMMANDS), choices=sorted(COMMANDS), metavar="COMMAND")
    given = parser.parse_args()
    faulthandler.enable()
    numbers = range(given.first, given.first + given.cases) if given.case is None else [given.case]
    reports = []
    with tempfile.TemporaryDirectory(prefix="birthgpt-fuzz-") as folder:
        driver = new_driver(Path(folder), given.seed, LOADING if given.loading else targets_of(given.commands))
        start = time.monotonic()
        for number in numbers:
            # the last number, if a library ends the process
            print(f"case {number}\r", end="", file=sys.stderr, flush=True)
            report = driver.run_case(number)
            reports.append(report)
            if forbidden([report]) or given.case is not None:
                print(f"{report}\n", flush=True)
    print(outcome_table(reports))
    print(f"\n{len(reports)} cases of seed {given.seed} in {time.monotonic() - start:.0f} s")
    for name, text in {**ALLOWED, **FORBIDDEN}.items():
        print(f"  {name}: {text}")
    sys.exit(1 if forbidden(reports) else 0)


if __name__ == "__main__":
    main()
