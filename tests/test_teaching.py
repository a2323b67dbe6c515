"""The teaching guide: a plan for every chapter, whole, in the book, and about exercises
that are there.
"""

import re
from pathlib import Path

import pytest

from robustbook import exercises, studies

ROOT = Path(__file__).parents[1]
TEACH = ROOT / "book" / "teach"
CHAPTERS = [
    name
    for name in studies.names()
    if "# ## See it once" in (ROOT / "notebooks" / f"{name}.py").read_text("utf-8")
]
PARTS = (
    *("Goals", "Ninety minutes", "Questions to discuss", "What students get wrong"),
    *("Assignment", "Project"),
)


@pytest.mark.parametrize("study", CHAPTERS)
def test_every_chapter_has_a_whole_plan_that_stands_in_the_book(study):
    text = (TEACH / f"{study}.md").read_text(encoding="utf-8")
    assert re.findall("^## (.*)$", text, re.M) == list(PARTS)
    assert f"(../studies/{study}.ipynb)" in text and "**Needed before:**" in text
    assert f"file: teach/{study}" in (ROOT / "_toc.yml").read_text(encoding="utf-8")
    minutes = [int(end) for end in re.findall(r"^\| \d+–(\d+) \|", text, re.M)]
    assert minutes == sorted(minutes) and minutes[-1] == 90


@pytest.mark.parametrize("study", CHAPTERS)
def test_a_plan_names_exercises_that_are_there(study):
    text = (TEACH / f"{study}.md").read_text(encoding="utf-8")
    count = len(exercises.cells(ROOT / "notebooks" / f"{study}.py"))
    for words in re.findall(r"[Ee]xercises? ([\d, and to]+)", text):
        assert all(1 <= int(number) <= count for number in re.findall(r"\d+", words))


def test_courses_plan_every_chapter():
    text = (TEACH / "courses.md").read_text(encoding="utf-8")
    six, _, twelve = text.partition("## Twelve sessions")
    for study in CHAPTERS:
        assert f"({study}.md)" in six and f"({study}.md)" in twelve
