"""Damaged and poisoned packages: never accepted, never executed, no other kind of error, nothing else touched."""

from __future__ import annotations

import base64
import os
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tidegate_components.packaging.fetch import fetch
from tidegate_components.packaging.layout import SIGNATURE, SUMS, PackageError
from tidegate_components.packaging.signature import PRIVATE, PUBLIC, keygen, sign
from tidegate_components.packaging.verify import verify, verify_package
from unit.components.packaged import CONFIG, NAME, ONNX, list_anew, tiny_package

MUTATIONS = 600

Damage = Callable[[random.Random, Path], None]


class Bomb:
    """Whoever unpickles it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed package beside both pairs of keys."""
    folder = tmp_path_factory.mktemp("fuzz")
    keygen(folder / "ours")
    keygen(folder / "theirs")
    sign(tiny_package(folder / "original"), folder / "ours" / PRIVATE)
    return folder


def any_file(rng: random.Random, package: Path) -> Path:
    return rng.choice(sorted(path for path in package.rglob("*") if path.is_file() and not path.is_symlink()))


def flip(rng: random.Random, package: Path) -> None:
    path = any_file(rng, package)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def truncate(rng: random.Random, package: Path) -> None:
    path = any_file(rng, package)
    os.truncate(path, rng.randrange(path.stat().st_size))


def extend(rng: random.Random, package: Path) -> None:
    path = any_file(rng, package)
    path.write_bytes(path.read_bytes() + rng.choice([b"\n", b"\0", b" ", rng.randbytes(9)]))


def remove(rng: random.Random, package: Path) -> None:
    any_file(rng, package).unlink()


NAMES = (
    "golden/request-9.json", "reference/more.json", "report.htm", "model.json.bak", ".hidden", "golden/x.pkl",
    f"repository/{NAME}/1/model.py", f"repository/{NAME}/2/model.onnx", "repository/other/config.pbtxt",
    "SHA256SUMS.bak", f"repository/{NAME}/1/model.onnx.data", "lib.so", "golden/..json", "golden/a b.json",
    "golden/\u202e.json",
)  # fmt: skip


def rename(rng: random.Random, package: Path) -> None:
    target = package / rng.choice(NAMES)
    target.parent.mkdir(parents=True, exist_ok=True)
    any_file(rng, package).rename(target)


def add(rng: random.Random, package: Path) -> None:
    target = package / rng.choice(NAMES)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(rng.choice([b"{}", b"<p>", rng.randbytes(30), pickle.dumps(Bomb(package.parent / "trace"))]))


def swap(rng: random.Random, package: Path) -> None:
    one, other = any_file(rng, package), any_file(rng, package)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def edit_sums(rng: random.Random, package: Path) -> None:
    sums = package / SUMS
    lines = sums.read_text().splitlines()
    at = rng.randrange(len(lines))
    lines[at : at + 1] = rng.choice([
        [], [lines[at], lines[at]], [lines[at].upper()], [lines[at] + " "], [f"{'0' * 64}  ../outside.json"],
        [f"{'0' * 64}  /etc/passwd"], [f"{lines[at][:66]}{rng.choice(NAMES)}"], [""], [lines[at] + "\r"],
        [f"{'0' * 64}  golden/../../x.json"], [lines[at].replace("  ", " ")],
    ])  # fmt: skip
    sums.write_text("\n".join(lines) + "\n")


def link(rng: random.Random, package: Path) -> None:
    path = any_file(rng, package)
    outside = package.parent / "linked"
    shutil.copyfile(path, outside)
    path.unlink()
    path.symlink_to(rng.choice([outside, Path("/etc/passwd"), Path("../linked"), package / "nowhere"]))


def link_folder(rng: random.Random, package: Path) -> None:
    folder = package / rng.choice(["golden", "reference", "repository"])
    outside = package.parent / "linked-folder"
    shutil.copytree(folder, outside, dirs_exist_ok=True)
    shutil.rmtree(folder)
    folder.symlink_to(outside)


def replace_by_folder(rng: random.Random, package: Path) -> None:
    path = any_file(rng, package)
    path.unlink()
    path.mkdir()


def replace_by_pipe(rng: random.Random, package: Path) -> None:
    path = any_file(rng, package)
    path.unlink()
    os.mkfifo(path)


def add_folder(rng: random.Random, package: Path) -> None:
    (package / rng.choice(["empty", "golden/deep", "__pycache__"])).mkdir()


def resign(rng: random.Random, package: Path) -> None:
    """A signature, but not ours over this."""
    sign(package, package.parent / "theirs" / PRIVATE)
    if rng.random() < 0.5:
        good = (package.parent / "original" / SIGNATURE).read_bytes()
        raw = base64.b64decode(good)
        bad = [b"", raw, good.strip(), b" " + good, good + good, good[:-2] + b"\n", base64.b64encode(raw[:63]) + b"\n",
               base64.urlsafe_b64encode(raw[::-1]) + b"\n", good.replace(b"==", b"=") , b"A" * 2000]  # fmt: skip
        (package / SIGNATURE).write_bytes(rng.choice(bad))


DAMAGES: list[Damage] = [
    flip, flip, flip, truncate, extend, remove, rename, add, swap, edit_sums, edit_sums, link, link_folder,
    replace_by_folder, replace_by_pipe, add_folder, resign,
]  # fmt: skip


def content(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What lies in a folder, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file" if path.is_file() else "other"
        data = path.read_bytes() if kind == "file" else os.readlink(path).encode() if kind == "link" else b""
        found[path.relative_to(folder).as_posix()] = (kind, data)
    return found


def refused(check: Callable[[], object]) -> str:
    """The sentence of the refusal; any other end fails the test."""
    with pytest.raises(PackageError) as caught:
        check()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "expected" in sentence
    return sentence


def without_signature(found: dict[str, tuple[str, bytes]]) -> dict[str, tuple[str, bytes]]:
    return {name: what for name, what in found.items() if name != SIGNATURE}


def fetched_whole_or_refused(package: Path, digest: str, key: Path, good: dict[str, tuple[str, bytes]]) -> None:
    """A fetch takes listed files only, so what lies beside them does not stop it, and does not come along."""
    into = package.parent / "into"
    try:
        assert content(fetch(str(package), digest, into, key)) == good
    except PackageError:
        assert not (into / "package").exists()
    shutil.rmtree(into)


def test_hundreds_of_damaged_packages_are_refused_and_nothing_else_is_touched(home: Path) -> None:
    key, original = home / "ours" / PUBLIC, home / "original"
    good = content(original)
    digest = verify_package(original, key=key).digest
    package, rng, done = home / "damaged", random.Random(20261121), Counter[str]()
    while done.total() < MUTATIONS:
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(original, package)
        chosen = rng.sample(DAMAGES, k=rng.choice([1, 1, 1, 2, 3]))
        try:
            for damage in chosen:
                damage(rng, package)
            if rng.random() < 0.4:
                list_anew(package)
                if rng.random() < 0.5:
                    sign(package, home / "theirs" / PRIVATE)
        except (OSError, ValueError, IndexError, PackageError):  # one damage left no room for the next
            continue
        now = content(package)
        if now == good:
            continue
        before = content(home)
        refused(partial(verify, package, key=key))
        if without_signature(now) != without_signature(good):
            refused(partial(verify, package, digest))
        fetched_whole_or_refused(package, digest, key, good)
        assert content(home) == before
        assert not (home / "trace").exists()
        done.update(damage.__name__ for damage in chosen[:1])
    assert done.total() >= MUTATIONS
    assert set(done) == {damage.__name__ for damage in DAMAGES}, done


def poisons(trace: Path) -> dict[str, Callable[[Path], None]]:
    """Changes that must be refused though the package is listed anew and signed by the right key."""
    bomb, text_bomb = pickle.dumps(Bomb(trace)), pickle.dumps(Bomb(trace), protocol=0)
    script = f"open({str(trace)!r}, 'w')".encode()
    names = ["report.html", "model.json", "golden/request-1.json", "reference/distributions.json", ONNX, CONFIG]
    found: dict[str, Callable[[Path], None]] = {}
    for name in names:
        found[f"pickle as {name}"] = lambda p, n=name: put(p, n, bomb)
        found[f"text pickle as {name}"] = lambda p, n=name: put(p, n, text_bomb)
        found[f"Python as {name}"] = lambda p, n=name: put(p, n, script)
        found[f"nothing as {name}"] = lambda p, n=name: put(p, n, b"")
    for name in (f"repository/{NAME}/1/model.py", "x.py", "golden/x.pkl", "golden/x.json.pickle", "setup.cfg", "a.so"):
        found[f"extra {name}"] = lambda p, n=name: put(p, n, script)
    settings = {
        "backend": 'backend: "python"', "parameters": 'parameters: { key: "EXECUTION_ENV_PATH" value: '
        '{ string_value: "/tmp/env.tar.gz" } }', "platform": 'platform: "tensorflow_graphdef"',
        "runtime": 'runtime: "x.so"',
        "library": 'model_operations { op_library_filename: [ "evil.so" ] }',
        "agents": 'model_repository_agents { agents [ { name: "checksum" } ] }',
        "file": 'default_model_filename: "../../x.onnx"',
        "warmup": 'model_warmup [ { name: "x" batch_size: 1 inputs: { key: "ids" value: { data_type: TYPE_INT64 '
        'input_data_file: "/etc/passwd" } } } ]',
        "ensemble": "ensemble_scheduling { step [ ] }", "type URL": "[type.googleapis.com/inference.ModelConfig] { }",
        "accelerator": 'optimization { execution_accelerators { cpu_execution_accelerator [ { name: "openvino" } ] } }',
    }  # fmt: skip
    for name, line in settings.items():
        found[f"config with {name}"] = lambda p, extra=line: put(p, CONFIG, (p / CONFIG).read_bytes() + extra.encode())
    return found


def put(package: Path, name: str, data: bytes) -> None:
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_bytes(data)


def test_poison_is_refused_though_it_is_listed_and_rightly_signed(home: Path) -> None:
    key, package = home / "ours" / PUBLIC, home / "poisoned"
    for name, poison in poisons(home / "trace").items():
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(home / "original", package)
        poison(package)
        digest = list_anew(package)
        sign(package, home / "ours" / PRIVATE)
        checks = partial(verify, package, digest, key), partial(fetch, str(package), digest, home / "got", key)
        for check in checks:
            try:
                refused(check)
            except pytest.fail.Exception as error:
                raise AssertionError(f"{name} was accepted") from error
    assert not (home / "trace").exists()
    assert not (home / "got" / "package").exists()
