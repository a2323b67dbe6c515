"""The teaching guide: a plan for every chapter, whole, in the book, and about exercises
that are there; quizzes.
"""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

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


# Quizzes
# --------------------------------------------------------------------------------------

sys.path.insert(0, str(ROOT / "book" / "_ext"))
quiz = import_module("quiz")


def questions():
    """The questions of each chapter, by study."""
    text = (TEACH / "quizzes.md").read_text(encoding="utf-8")
    found = re.findall(r"studies/(\w+)\.ipynb.*?```{quiz}\n(.*?)```", text, re.S)
    return {study: yaml.safe_load(block) for study, block in found}


def test_every_chapter_has_six_questions_whose_answers_are_all_explained():
    asked = questions()
    assert sorted(asked) == sorted(CHAPTERS)
    for study, entries in asked.items():
        assert len(entries) == 6, study
        for entry in entries:
            texts = [text for text, _, why in quiz.answers(entry) if why.strip()]
            assert len(set(texts)) >= 3, entry["ask"]
            assert all(isinstance(text, str) for text in texts)


def test_the_place_of_the_right_answer_says_nothing():
    places = [
        [right for _, right, _ in quiz.answers(entry)].index(True)
        for entries in questions().values()
        for entry in entries
    ]
    assert all(places.count(place) >= len(places) / 6 for place in range(3))


def test_a_question_unfolds_without_a_script():
    entry = {"ask": "Is 1 < 2?", "right": "Yes", "because": "It *is*."}
    shown = BeautifulSoup(
        quiz._question({**entry, "wrong": {"No": "Count."}}), "html.parser"
    )
    folds = {one.summary.text: one.p.text for one in shown.find_all("details")}
    assert folds == {"Yes": "Right. It is.", "No": "No. Count."}
    assert shown.find(attrs={"role": "group"})["aria-label"] == "Is 1 < 2?"
