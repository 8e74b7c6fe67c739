"""A package is whole and right, or refused with a sentence that names what is wrong."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate_components.packaging.fetch import fetch
from tidegate_components.packaging.layout import SUMS, PackageError, write_sums
from tidegate_components.packaging.onnx_export import onnx_scores
from tidegate_components.packaging.verify import verify
from unit.components.trained import Trained


@pytest.fixture
def package(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.package, tmp_path / "package"))


def digest_of(package: Path) -> str:
    return "sha256:" + hashlib.sha256((package / SUMS).read_bytes()).hexdigest()


def test_sha256sum_itself_agrees(package: Path, trained: Trained) -> None:
    done = subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=package, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = [line.split("  ")[1] for line in (package / SUMS).read_text().splitlines()]
    assert listed == sorted(listed)
    assert digest_of(package) == trained.digest


def test_a_whole_package_is_fetched_with_the_probe_beside_it(package: Path, trained: Trained, tmp_path: Path) -> None:
    for uri in (str(package), f"file://{package}"):
        assert fetch(uri, trained.digest, tmp_path / "models") == tmp_path / "models" / "package"
    assert verify(tmp_path / "models" / "package", trained.digest).name == "ctr-ranker"
    assert (tmp_path / "models" / "golden_probe.py").is_file()


def test_a_claim_is_an_address(package: Path, trained: Trained, claims: Path, tmp_path: Path) -> None:
    shutil.copytree(package, claims / "models" / "ctr" / "1")
    assert fetch("pvc://models/ctr/1", trained.digest, tmp_path / "into").is_dir()


@contextmanager
def served(handler: Any) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_web_server_is_an_address(package: Path, trained: Trained, tmp_path: Path) -> None:
    with served(partial(http.server.SimpleHTTPRequestHandler, directory=str(package.parent))) as url:
        assert fetch(f"{url}/package", trained.digest, tmp_path / "into").is_dir()
        with pytest.raises(PackageError, match=r"unreadable: .*404|unreadable: File not found"):
            fetch(f"{url}/nothing", trained.digest, tmp_path / "none")
    assert not (tmp_path / "none" / "package").exists()


def alter(package: Path) -> None:
    (package / "model.json").write_text("{}")


def truncate(package: Path) -> None:
    onnx = next(package.rglob("model.onnx"))
    os.truncate(onnx, onnx.stat().st_size // 2)


def remove(package: Path) -> None:
    (package / "golden" / "request-1.json").unlink()


def link(package: Path) -> None:
    (package / "report.html").rename(package.parent / "report.html")
    (package / "report.html").symlink_to(package.parent / "report.html")


def relist(package: Path, name: str) -> None:
    """Add a file to the package and list it, so that only its name can be wrong."""
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_text("x")
    with (package / SUMS).open("a") as sums:
        sums.write(f"{hashlib.sha256(b'x').hexdigest()}  {name}\n")


def relist_all(*names: str) -> list[tuple[Callable[[Path], None], str]]:
    return [(partial(relist, name=name), name) for name in names]


@pytest.mark.parametrize(
    ("damage", "words"),
    [(alter, "model.json"), (truncate, "model.onnx"), (remove, "request-1.json"), (link, "symbolic link"),
     *relist_all("repository/ctr-ranker/1/model.py", "golden/x.pkl", "../evil.json", "repository/../../evil.json")],
)  # fmt: skip
def test_a_damaged_package_is_refused(package: Path, tmp_path: Path, damage: Any, words: str) -> None:
    damage(package)
    with pytest.raises(PackageError, match=words.replace(".", r"\.")):
        fetch(str(package), digest_of(package), tmp_path / "models")
    assert not (tmp_path / "models" / "package").exists()
    with pytest.raises(PackageError):
        verify(package)


def test_a_model_of_another_name_than_was_asked_for_is_refused(package: Path, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"name in model.json is 'ctr-ranker', expected calibrator"):
        fetch(str(package), trained.digest, tmp_path / "models", name="calibrator")
    assert not (tmp_path / "models" / "package").exists()


def test_a_file_that_is_not_listed_is_refused(package: Path) -> None:
    (package / "golden" / "extra.json").write_text("{}")
    with pytest.raises(PackageError, match="a file that SHA256SUMS does not list"):
        verify(package)


def test_another_digest_is_refused_before_anything_is_fetched(package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"digest is 'sha256:[0-9a-f]{64}', expected sha256:1111"):
        fetch(str(package), "sha256:" + "1" * 64, tmp_path / "models")


def test_a_failed_fetch_leaves_the_old_package(package: Path, trained: Trained, tmp_path: Path) -> None:
    fetch(str(package), trained.digest, tmp_path / "models")
    truncate(package)
    with pytest.raises(PackageError):
        fetch(str(package), trained.digest, tmp_path / "models")
    verify(tmp_path / "models" / "package", trained.digest)
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["golden_probe.py", "package"]


def test_a_manifest_that_says_too_little_is_refused(package: Path) -> None:
    (package / "model.json").write_text('{"name": "x"}')
    write_sums(package)
    with pytest.raises(PackageError, match=r"model.json is .*expected a manifest"):
        verify(package)


def inference_server(package: Path, shift: float) -> Any:
    """The v2 protocol over the package's own ONNX; `shift` makes it answer wrongly."""
    onnx = next(package.rglob("model.onnx"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            ids, dense = (np.array(i["data"]).reshape(i["shape"]) for i in body["inputs"])
            scores = onnx_scores(onnx, ids.astype(np.int64), dense.astype(np.float32)) + shift
            output = {"name": "score", "datatype": "FP32", "shape": [len(scores), 1], "data": scores.tolist()}
            answer = json.dumps({"outputs": [output]}).encode()
            self.send_response(200 if self.path == "/v2/models/ctr-ranker/versions/1/infer" else 404)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


@pytest.mark.parametrize(("shift", "code", "words"), [(0.0, 0, "agree"), (0.01, 1, "wrongly: output score[0] is")])
def test_the_probe_compares_what_a_server_answers(
    package: Path, trained: Trained, tmp_path: Path, shift: float, code: int, words: str
) -> None:
    fetch(str(package), trained.digest, tmp_path / "models")
    with served(inference_server(package, shift)) as url:
        command = [sys.executable, "-I", str(tmp_path / "models" / "golden_probe.py"), "--package", str(package)]
        done = subprocess.run([*command, "--url", url], capture_output=True, text=True, check=False)
    assert (done.returncode, words in done.stdout, done.stdout.count("\n")) == (code, True, 1), done


def test_the_probe_asks_for_every_package_that_it_is_given(package: Path, trained: Trained, tmp_path: Path) -> None:
    fetch(str(package), trained.digest, tmp_path / "models")
    other = tmp_path / "other"
    shutil.copytree(package, other)
    manifest = other / "model.json"
    manifest.write_text(manifest.read_text().replace('"ctr-ranker"', '"nobody"', 1))
    with served(inference_server(package, 0.0)) as url:
        packages = ["--package", str(package), "--package", str(other)]
        command = [sys.executable, "-I", str(tmp_path / "models" / "golden_probe.py"), *packages, "--url", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "model nobody did not answer" in done.stdout


def test_the_probe_says_when_nobody_answers(package: Path) -> None:
    from tidegate_components.packaging.golden_probe import probe

    assert "did not answer golden request-1.json" in probe(package, "http://127.0.0.1:1")


def test_the_configuration_is_what_triton_parses(package: Path) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    config = text_format.Parse(next(package.rglob("config.pbtxt")).read_text(), ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("ctr-ranker", "onnxruntime", 1024)
    assert [(i.name, list(i.dims)) for i in config.input] == [("ids", [12]), ("dense", [4])]
    assert list(config.dynamic_batching.preferred_batch_size) == [128]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert [group.count for group in config.instance_group] == [2]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 64]
