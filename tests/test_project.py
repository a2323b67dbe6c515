"""The files that say what the project needs agree with each other, and none of them
names an index.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
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


def makefile_says(*words: str) -> str:
    """What `make` would do for these words in an empty environment."""
    return subprocess.run(
        ["make", "--dry-run", "VENV=.nothing-here", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_torch_without_cuda_comes_from_pytorchs_own_index() -> None:
    """The lock without the lines of CUDA, and PyTorch's index beside the usual one."""
    plain, cpu = makefile_says("install"), makefile_says("install", "TORCH=cpu")
    assert "-r requirements.lock" in plain
    assert "download.pytorch.org" not in plain
    assert "--extra-index-url https://download.pytorch.org/whl/cpu -r .nothing" in cpu
    (pattern,) = re.findall(r"grep -vE '(.+)' requirements\.lock", cpu)
    dropped = [line for line in LOCK.splitlines() if re.match(pattern, line)]
    assert all("sys_platform == 'linux'" in line for line in dropped)
    left = "\n".join(line for line in LOCK.splitlines() if line not in dropped)
    assert not re.search("nvidia|cuda|triton", left)
    assert "\ntorch==" in left


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_actions_by_digest_and_may_do_little(path: Path) -> None:
    """Whoever moves a tag of an action moves nothing here; a job says itself what more
    than reading it may do.
    """
    text = path.read_text()
    used = re.findall(r"uses: (.+)", text)
    assert all(
        re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v[\d.]+", one) for one in used
    )
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        if job.get("permissions"):
            assert not any("checkout@" in step.get("uses", "") for step in job["steps"])
    for step in (step for job in workflow["jobs"].values() for step in job["steps"]):
        if "checkout@" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        # Words of others get into a script through its environment alone.
        assert "${{" not in step.get("run", "")


def test_workflows_and_the_container_ask_for_what_make_has() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.M)
    container = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    texts = [path.read_text() for path in WORKFLOWS] + [container]
    asked = {name for text in texts for name in re.findall(r"\bmake (\w+)", text)}
    assert {"test", "book", "read", "quicktest", "install"} <= asked
    assert asked <= set(phony.split())
    assert json.loads(container)["image"].count(":") == 1


def test_pythons_of_the_workflows_are_those_of_the_package() -> None:
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    pythons = tests["jobs"]["linux"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    named = [line for line in PROJECT["classifiers"] if "Python ::" in line]
    assert [line.rpartition(" ")[2] for line in named] == pythons
