"""What the operator costs a cluster: API calls, CPU and memory over a while, read from outside.

    dev/cluster up; make demo; python benchmarks/operator_cost.py --seconds 300

Needs the development cluster with the operator installed: calls are counted in the API server's audit log, CPU and
memory are the kernel's figures for the operator's process. Whatever goes on meanwhile is counted: idle, or a rollout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "dev"))

from tidegate_dev import paths

USER = "system:serviceaccount:tidegate-system:tidegate-operator"


def operators() -> list[psutil.Process]:
    """The operator's processes, in whatever pods."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if "tidegate_operators" in (process.info["cmdline"] or [])]


def calls(user: str = USER) -> Iterator[str]:
    """Verb and resource of each call of a user that the audit log holds; a watch counts once."""
    for file in sorted(paths.logs().glob("audit*.log")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if entry["user"]["username"] == user and entry["stage"] == "ResponseComplete":
                reference = entry.get("objectRef", {})
                yield f"{entry['verb']} {reference.get('resource', entry['requestURI'])}"


def main() -> None:
    """Wait, and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    seconds = parser.parse_args().seconds
    processes = operators()
    if not processes:
        print("No operator runs on this machine: `make demo` brings one up.")
        return
    before, cpu = Counter(calls()), [sum(process.cpu_times()[:2]) for process in processes]
    time.sleep(seconds)
    made = Counter(calls()) - before
    for process, start in zip(processes, cpu, strict=True):
        used, resident = sum(process.cpu_times()[:2]) - start, process.memory_info().rss / 2**20
        print(f"operator {process.pid}: {used / seconds:.3f} cores, {resident:.0f} MiB")
    print(f"{made.total()} API calls in {seconds:.0f} s, {3600 * made.total() / seconds:.0f} an hour")
    for what, count in made.most_common():
        print(f"{count:8d}  {what}")


if __name__ == "__main__":
    main()
