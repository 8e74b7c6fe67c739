"""The child process of a local run: the compiled DAG through kfp.local, outputs written as JSON.

python -m tidegate_pipelines.local_child COMPILED.yaml ARGUMENTS.json ROOT OUTPUTS.json
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(compiled: str, arguments: str, root: str, outputs: str) -> None:
    """Run the compiled pipeline with caching; exits non-zero by the exception of the first failed step."""
    from kfp import components, local

    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=f"{root}/runs",
        workspace_root=f"{root}/workspace",
        enable_caching=True,
        cache_root=f"{root}/cache",
    )
    pipeline = components.load_component_from_file(compiled)
    done = pipeline(**json.loads(Path(arguments).read_text()))
    Path(outputs).write_text(json.dumps({name: _plain(value) for name, value in done.outputs.items()}))


def _plain(value: Any) -> Any:
    return value.path if hasattr(value, "path") else value


if __name__ == "__main__":
    main(*sys.argv[1:])
