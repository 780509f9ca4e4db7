"""Every client in clients/ through every case, against the real service: `make conformance`."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import clients, page, service
from tests.conformance.expected import Expected
from tests.conformance.inputs import write_inputs
from tests.conformance.planning import Case, read_cases
from tests.conformance.table import line, summary, table
from tests.conformance.trial import Outcome, Run
from tests.faults.fleet import CHECKPOINT


def outcomes(cases: Sequence[Case], chosen: Sequence[clients.Client]) -> list[Outcome]:
    """Of each client, one after another."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        inputs = write_inputs(folder / "inputs")
        with service.running(folder) as started:
            run = Run(cases, started, inputs, Expected(CHECKPOINT, inputs))
            return [_told(run, client, folder) for client in chosen]


def chosen_clients(languages: Sequence[str]) -> list[clients.Client]:
    """Those of these languages; all, if there are none. Raises SystemExit for a language without a client."""
    found = clients.every_client()
    names = {client.language.lower() for client in found}
    if strange := {language.lower() for language in languages} - names:
        known = ", ".join(sorted(names))
        raise SystemExit(f"there is no client for {', '.join(sorted(strange))}; there are {known}")
    wanted = {language.lower() for language in languages} or names
    return [client for client in found if client.language.lower() in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--language", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--case", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--packages", action="store_true", help="list the Debian packages that clients lack")
    parser.add_argument("--page", action="store_true", help="write docs/conformance.md")
    given = parser.parse_args()
    if given.packages:
        print(*clients.packages())
        return 0
    if given.page and (given.case or given.language):
        parser.error("--page is about all languages and cases: leave --language and --case out")
    cases, chosen = read_cases(given.case), chosen_clients(given.language)
    found = outcomes(cases, chosen)
    if all(outcome.not_run for outcome in found):
        print(f"{table(cases, found)}\n\n{summary(found)}")
        return 2  # nothing was shown
    if given.page:
        page.FILE.write_text(page.page(cases, found, chosen), encoding="utf-8")
    print(f"{table(cases, found)}\n\n{summary(found)}")
    return int(any(outcome.failed for outcome in found))


def _told(run: Run, client: clients.Client, folder: Path) -> Outcome:
    """Says so, as building may take minutes."""
    print(f"{client.language}: building and running ...", file=sys.stderr)
    outcome = run.through(client, folder)
    print(line(outcome), file=sys.stderr)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
