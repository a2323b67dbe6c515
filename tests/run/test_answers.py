"""What the short commands keep: equal to what they would find anew, never older, and
nothing else.
"""

import os
import shutil

import pytest
from run_helpers import FIXTURES

from robustbook import cli, studies
from robustbook.errors import UnknownNameError
from robustbook.run import answers
from robustbook.run.project import RunId

QUICK = RunId("tiny", "quick")


@pytest.fixture
def found(monkeypatch):
    """The studies whose answers were found anew, in order."""
    calls, new = [], answers.new

    def noted(project, study):
        calls.append(study)
        return new(project, study)

    monkeypatch.setattr(answers, "new", noted)
    return calls


def test_an_answer_is_found_once_and_equals_a_new_one(ran, found):
    first = answers.every(ran)
    assert answers.every(ran) == first == {"tiny": answers.new(ran, "tiny")}
    assert found == ["tiny", "tiny"]
    (entry,) = first["tiny"].claims
    assert entry.rows[0]["name"] == "mean"
    assert [each.state for each in first["tiny"].states] == ["missing", "fresh"]


@pytest.mark.parametrize(
    "of", ["page", "record", "notebook", "parameter set", "new set", "new run"]
)
def test_whatever_an_answer_depends_on_changes_it(ran, found, of):
    answers.every(ran)
    path = {
        "page": ran.page(QUICK),
        "record": ran.record(QUICK),
        "notebook": ran.notebook("tiny"),
        "parameter set": ran.parameter_set("quick"),
        "new set": ran.parameter_set("new"),
        "new run": ran.record(RunId("tiny", "wide")),
    }[of]
    before = path.stat() if path.exists() else None
    with path.open("a") as stream:
        stream.write(f"\n# {of}\n")
    if before:  # A file's time is no proof.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found.clear()
    assert answers.every(ran) == {"tiny": answers.new(ran, "tiny")}
    assert found == ["tiny", "tiny"]


def test_code_changes_an_answer(ran, found, monkeypatch, tmp_path):
    copy = shutil.copytree(FIXTURES / "studies", tmp_path / "copy")
    monkeypatch.setattr(studies, "__path__", [str(copy)])
    answers.every(ran)
    assert answers.code_digest() == answers.code_digest()
    with (copy / "tiny.py").open("a") as stream:
        stream.write("# a note\n")
    answers.every(ran)
    (tmp_path / "numpy-0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    answers.every(ran)
    assert found == ["tiny"] * 3


def bad_files(content: bytes):
    yield b""
    yield b"\xff"
    yield b"{}\n{}"
    yield content[:-1]
    yield content + b"\n"
    yield content.replace(b"fresh", b"stale")
    yield content.replace(b"reproduced", b"partly")
    yield bytes([content[0] ^ 1]) + content[1:]


def test_a_kept_answer_that_was_changed_is_not_used(ran, found):
    said = answers.every(ran)
    path = ran.work / "answers" / "tiny.json"
    content = path.read_bytes()
    for bad in bad_files(content):
        path.write_bytes(bad)
        assert answers.every(ran) == said
        assert path.read_bytes() == content
    for text in ("[]", "{}", "[" * 10**5, '{"title": 1, "runs": [[1]], "claims": 2}'):
        key = answers._key(ran, "tiny", answers.code_digest())
        path.write_text(f"{answers._sealed(key, text)}\n{text}")
        assert answers.every(ran) == said
    path.unlink()
    os.mkfifo(path)
    assert answers.every(ran) == said
    other = ran.work / "answers" / "other.json"
    other.write_bytes(content)
    assert answers._kept(other, "other", "another key") is None


def test_where_nothing_can_be_kept_commands_work(ran, found, capsys):
    shutil.rmtree(ran.work)
    ran.work.write_text("no folder")
    for _ in range(2):
        assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == "tiny reference: missing\ntiny quick: fresh\n" * 2
    assert found == ["tiny"] * 2
    assert ran.work.read_text() == "no folder"


def test_what_changes_while_an_answer_is_found_is_not_kept(ran, monkeypatch):
    new = answers.new

    def meanwhile(project, study):
        answer = new(project, study)
        with ran.notebook("tiny").open("a") as stream:
            stream.write("1\n")
        return answer

    monkeypatch.setattr(answers, "new", meanwhile)
    answers.every(ran)
    assert not (ran.work / "answers").exists()


def test_only_the_studies_asked_for_are_answered(ran, found):
    with pytest.raises(UnknownNameError, match="did you mean"):
        answers.every(ran, ["tinny"])
    assert found == []
    assert list(answers.every(ran, ["tiny"])) == ["tiny"]
