"""One client through all cases: runs its program, does the harm that cases order, and judges."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance import peculiar_servers
from tests.conformance.clients import Client, ClientFailed
from tests.conformance.figures import Answers
from tests.conformance.judge import Trial, judged
from tests.conformance.planning import Case, plan


@dataclass
class Outcome:
    """Of one client: what is wrong, by case; nothing, if nothing is."""

    language: str
    not_run: str = ""
    """Why; then nothing is judged, and nothing has passed."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        return [name for name, found in self.problems.items() if found]


class Run:
    """`service` is started; `inputs` are the files that cases name."""

    def __init__(self, cases: Sequence[Case], service: Any, inputs: Path, answers: Answers) -> None:
        self._cases = {case["name"]: case for case in cases}
        self._service, self._inputs, self._answers = service, inputs, answers

    def through(self, client: Client, folder: Path) -> Outcome:
        """Builds it, runs it, and judges each case."""
        if missing := client.missing():
            return Outcome(client.language, not_run=f"needs {', '.join(missing)}")
        outcome, trouble = Outcome(client.language), ""
        with peculiar_servers.serving() as servers:
            try:
                client.build_it()
                client.run_plan(self._plan(folder, servers), self._listener(outcome))
            except ClientFailed as error:
                trouble = str(error)
            for case in self._cases.values():
                outcome.problems[case["name"]] = self._problems(case, outcome, servers, trouble)
        return outcome

    def _plan(self, folder: Path, servers: Any) -> Path:
        endpoints = self._service.endpoints()
        endpoints |= {name: {"address": address} for name, (address, _) in servers.items()}
        file = folder / "plan.json"
        file.write_text(json.dumps(plan(list(self._cases.values()), endpoints, self._inputs)))
        return file

    def _listener(self, outcome: Outcome) -> Callable[[dict[str, Any]], None]:
        killed: set[str] = set()

        def hear(line: dict[str, Any]) -> None:
            name = line["case"]
            if "progress" not in line:
                outcome.reports[name] = line
            elif name not in killed and "kill" in self._cases[name]:
                killed.add(name)
                self._service.kill(self._cases[name]["kill"])

        return hear

    def _problems(self, case: Case, outcome: Outcome, servers: Any, trouble: str) -> list[str]:
        report = outcome.reports.get(case["name"])
        if report is None:
            return [f"no report{': ' if trouble else ''}{trouble}"]
        server = servers.get(case["endpoint"])
        attempts = len(server[1].requests) if server else None
        return judged(Trial(case, report, self._answers, self._cases, attempts))
