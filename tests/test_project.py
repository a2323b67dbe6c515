"""The files that say what the project needs agree with each other, and none of them
names an index.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import robustbook

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
# Conda's names where they differ from PyPI's.
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "django-static-mathjax": None,
    "torch-pruning": None,
}
CONDA_NAMES |= {"jupyter-client": "jupyter_client", "jupyter-core": "jupyter_core"}


def locked() -> dict[str, str]:
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", LOCK, flags=re.M))
    return {canonicalize_name(name): version for name, version in pins.items()}


def declared() -> list[Requirement]:
    return [
        Requirement(text)
        for text in [
            *PROJECT["dependencies"],
            *PROJECT["optional-dependencies"]["test"],
        ]
    ]


def test_lock_pins_every_line_exactly_once_and_names_no_index() -> None:
    lines = [line for line in LOCK.splitlines() if line.strip()]
    assert all(
        re.fullmatch(r"[A-Za-z0-9_.-]+==[^\s;]+( ; .+)?", line) for line in lines
    )
    names = [line.split("==")[0] for line in lines]
    assert len(names) == len(set(names))
    assert "://" not in LOCK


def test_lock_satisfies_the_declared_ranges() -> None:
    pins = locked()
    for requirement in declared():
        assert requirement.specifier.contains(
            pins[canonicalize_name(requirement.name)]
        ), requirement
    assert not pins["torch"].startswith("2.13.")


def test_conda_environment_has_the_same_packages() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip_part = next(
        entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)
    )
    entries = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    conda = dict(
        re.fullmatch(r"([a-z0-9_.-]+)(?:[=<>]+(.*))?", entry).groups()
        for entry in entries
    )
    pins = locked()
    for requirement in [Requirement(text) for text in PROJECT["dependencies"]]:
        name = canonicalize_name(requirement.name)
        other = CONDA_NAMES.get(name, name)
        version = pins[name]
        if other in conda:
            assert conda[other] == version, name
        else:
            assert f"{name}=={version}" in pip_part, name
    assert "-e ." in pip_part


def test_one_version_everywhere() -> None:
    assert PROJECT["dynamic"] == ["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == robustbook.__version__


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    commands = re.findall(r"^make \w+$", script, flags=re.M)
    assert commands == ["make test", "make book", "make read"]
    readme = (ROOT / "README.md").read_text()
    assert "make book" in readme
    assert "make test" in readme
