"""Ask a model server the golden requests and compare its answers: exit 0 when all agree, 1 when not, with one line.

A single file of the standard library (Python 3.8 and up): it runs inside any server image, beside the package.

    python3 golden_probe.py --package DIR [--package DIR ...] --url http://127.0.0.1:8000
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["main", "probe"]


def probe(package: Path, url: str, timeout: float = 5.0) -> str:
    """Send each golden request of a package to the v2 HTTP endpoint at `url`; returns "" or the sentence of a fault."""
    name = json.loads((package / "model.json").read_text())["name"]
    tolerance = json.loads((package / "golden" / "tolerance.json").read_text())
    requests = sorted((package / "golden").glob("request-*.json"))
    if not requests:
        return f"package {package} has no golden requests"
    for request in requests:
        wanted = json.loads(request.with_name(request.name.replace("request", "response")).read_text())
        try:
            found = _ask(f"{url.rstrip('/')}/v2/models/{name}/versions/1/infer", request.read_bytes(), timeout)
        except (OSError, ValueError) as error:
            return f"model {name} did not answer golden {request.name}: {_reason(error)}"
        fault = _difference(wanted, found, tolerance)
        if fault:
            return f"model {name} answered golden {request.name} wrongly: {fault}"
    return ""


def _ask(url: str, body: bytes, timeout: float) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - the url is the operator's own
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        return json.load(answer)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.read(300).decode('utf-8', 'replace')}"
    return str(getattr(error, "reason", error))


def _difference(wanted: Any, found: Any, tolerance: Any) -> str:
    answers = {output["name"]: output for output in found.get("outputs", [])}
    for output in wanted["outputs"]:
        answer = answers.get(output["name"])
        if answer is None or answer["shape"] != output["shape"] or len(answer["data"]) != len(output["data"]):
            return f"output {output['name']} is {answer and answer['shape']}, expected shape {output['shape']}"
        for index, (value, right) in enumerate(zip(answer["data"], output["data"])):  # noqa: B905 - Python 3.8
            if not math.isclose(value, right, rel_tol=tolerance["relative"], abs_tol=tolerance["absolute"]):
                return f"output {output['name']}[{index}] is {value}, expected {right}"
    return ""


def main() -> int:
    """Parse the command line, probe, print one line."""
    parser = argparse.ArgumentParser(description="Compare a model server's answers with a package's golden ones.")
    parser.add_argument("--package", type=Path, required=True, action="append", help="also more than once")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds per request")
    given = parser.parse_args()
    fault = next(filter(None, (probe(package, given.url, given.timeout) for package in given.package)), "")
    print(fault or f"golden answers of {', '.join(map(str, given.package))} agree")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
