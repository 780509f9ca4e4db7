"""Asks a database of vulnerabilities about the locked packages, through pip-audit.

Exit status: 0 every package was looked up and none is known to be vulnerable, 1 some are, 2 not run.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "deploy" / "requirements"
# torch-cpu.txt is another build of the same torch.
FILES = ("gateway.txt", "worker.txt", "torch-cuda.txt")


def main() -> int:
    worst = 0
    for file in FILES:
        line, status = audited(FOLDER / file)
        print(f"{file}: {line}")
        worst = max(worst, status)
    return worst


def audited(file: Path) -> tuple[str, int]:
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json"]
    done = subprocess.run([*command, "--requirement", str(file)], capture_output=True, text=True)
    try:
        return verdict(json.loads(done.stdout))
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return f"NOT RUN: {reason}", 2


def verdict(report: dict[str, Any]) -> tuple[str, int]:
    """pip-audit passes what it cannot look up; here that is no pass."""
    packages = report["dependencies"]
    found = [(each, flaw) for each in packages for flaw in each.get("vulns", ())]
    if found:
        return "\n".join(f"{each['name']} {each['version']}: {flaw['id']}" for each, flaw in found), 1
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    if unknown or not packages:
        return f"NOT RUN: {len(unknown)} of {len(packages)} packages could not be looked up", 2
    return f"{len(packages)} packages, no known vulnerability", 0


if __name__ == "__main__":
    sys.exit(main())
