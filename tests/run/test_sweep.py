"""Sweeps: what they expand to, that nothing is done twice, and the table and page they
leave.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict, Field
from run_helpers import contents, edit
from test_records import make_record

from robustbook import cli, files, studies
from robustbook.errors import UserError
from robustbook.results import Metric
from robustbook.run import (
    parameters,
    records,
    side_by_side,
    sweep,
    sweep_page,
    sweep_table,
)
from robustbook.run.project import RunId
from robustbook.run.sweep import Member, SweepPlan

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
WORDS = ["sweep", "tiny", "-p", "epsilon", "0.1,0.2", "--name", "eps"]
PAGES = {f"book/runs/tiny/sweep-eps.{kind}" for kind in ("md", "csv", "parquet")}


class Seeded(BaseModel):
    """Two networks a run, so repetitions are two seeds apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon: float = Field(0.1, ge=0, le=1)
    seeds: int = Field(2, ge=1, le=9)
    first_seed: int = Field(0, ge=0, le=20)


@pytest.fixture
def seeded(monkeypatch):
    monkeypatch.setattr(
        studies,
        "get",
        lambda study: SimpleNamespace(Parameters=Seeded, CLAIMS=(), TITLE="t"),
    )


@pytest.fixture
def snakefile(project):
    shutil.copy(SNAKEFILE, project.root)
    return project


def test_a_sweep_is_all_combinations_in_order(project):
    plan = sweep.expand(
        project,
        "tiny",
        "eps",
        typed=[("epsilon", "0.1, 0.2"), ("steps", "4"), ("what", "nothing,noise")],
    )
    assert plan.axes == {"epsilon": [0.1, 0.2], "what": ["nothing", "noise"]}
    assert [member.overrides for member in plan.members] == [
        {"epsilon": epsilon, "steps": 4, "what": what}
        for epsilon in (0.1, 0.2)
        for what in ("nothing", "noise")
    ]
    assert plan.members[1].run == "epsilon-0-1-what-noise"
    assert len({member.run for member in plan.members}) == 4


def test_values_of_lists_are_apart_at_semicolons(project):
    plan = sweep.expand(
        project, "tiny", "b", typed=[("budgets", "0.1,0.2; 0.3"), ("note", "a,b;c")]
    )
    assert plan.axes == {"budgets": [[0.1, 0.2], [0.3]], "note": ["a,b", "c"]}
    (one, other) = sweep.expand(
        project, "tiny", "b", typed=[("budgets", "0.1,0.2"), ("steps", "1,2")]
    ).members
    assert one.overrides == {"budgets": [0.1, 0.2], "steps": 1}
    assert other.overrides["steps"] == 2


def test_repetitions_share_no_seed(project, seeded):
    plan = sweep.expand(project, "tiny", "s", typed=[("epsilon", "0.1,0.2")], seeds=3)
    assert [
        (m.overrides["epsilon"], m.overrides["first_seed"], m.repetition)
        for m in plan.members
    ] == [
        (epsilon, 2 * repetition, repetition)
        for epsilon in (0.1, 0.2)
        for repetition in range(3)
    ]
    assert [
        m.overrides["first_seed"]
        for m in sweep.expand(project, "tiny", "s", seeds=2).members
    ] == [0, 2]


@pytest.mark.parametrize(
    ("typed", "seeds", "line"),
    [
        (
            [("epsilon", "0.1,2")],
            1,
            "parameter 'epsilon' must be a number (0 to 1), got '2.0'",
        ),
        (
            [("epsilon", "0.1,,0.2")],
            1,
            "parameter 'epsilon' must be a number (0 to 1), got ''",
        ),
        (
            [("epsilonn", "0.1,0.2")],
            1,
            "unknown parameter 'epsilonn': did you mean 'epsilon'?",
        ),
        ([("epsilon", "0.1,0.10")], 1, "a value was given twice"),
        (
            [("epsilon", "0.1,0.2"), ("epsilon", "0.3")],
            1,
            "a parameter was given twice",
        ),
        ([("epsilon", "0.1")], 1, "a sweep varies something"),
        ([("epsilon", " ; ")], 1, "parameter 'epsilon' is given no value"),
        (
            [("epsilon", ";"), ("steps", "1,2")],
            1,
            "parameter 'epsilon' is given no value",
        ),
        ([("steps", "1,2")], 2, "tiny has no parameter first_seed or seed"),
        (
            [
                ("steps", ",".join(map(str, range(1, 101)))),
                ("epsilon", ",".join(f"{i / 200}" for i in range(200))),
            ],
            1,
            "20000",
        ),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(project, typed, seeds, line):
    before = sorted(project.root.rglob("*"))
    with pytest.raises(UserError) as caught:
        sweep.expand(project, "tiny", "eps", typed=typed, seeds=seeds)
    assert line in str(caught.value)
    assert sorted(project.root.rglob("*")) == before


def test_seeds_out_of_range_and_given_twice_are_refused(project, seeded):
    with pytest.raises(
        UserError, match="parameter 'first_seed' must be a whole number"
    ):
        sweep.expand(project, "tiny", "s", seeds=12)
    with pytest.raises(UserError, match="--seeds sets first_seed itself"):
        sweep.expand(project, "tiny", "s", typed=[("first_seed", "1,2")], seeds=2)


@pytest.mark.parametrize("name", ["../evil", "A", "x" * 41, ""])
def test_names_that_are_no_names_are_refused(project, name):
    with pytest.raises(UserError):
        sweep.expand(project, "tiny", name, typed=[("epsilon", "0.1,0.2")])
    with pytest.raises(UserError, match="no sweep"):
        sweep.read(project, f"tiny.{name}/../..")


def test_no_run_takes_the_name_of_a_sweeps_page(project):
    with pytest.raises(UserError, match="sweep's page"):
        parameters.run_name(project, "tiny", "quick", {"steps": 3}, "sweep-eps")


def test_executors_that_are_not_installed_and_words_that_cannot_be_read_are_one_line(
    project,
):
    plan = sweep.expand(project, "tiny", "eps", typed=[("epsilon", "0.1,0.2")])
    with pytest.raises(
        UserError, match="pip install snakemake-executor-plugin-nowhere"
    ):
        side_by_side.command(project, plan, workers=1, executor="nowhere")
    with pytest.raises(UserError, match="No closing quotation"):
        side_by_side.command(project, plan, workers=1, extra="'")


def test_a_sweep_is_the_same_at_any_number_of_workers_and_nothing_is_done_twice(
    snakefile, capsys
):
    project = snakefile
    assert cli.main([*WORDS, "--workers", "2"]) == 0
    assert "2 of 2 runs" in capsys.readouterr().out
    assert set(contents(project)) == PAGES
    first = contents(project)
    plan = sweep.read(project, "tiny.eps")
    inner = sweep.inner(project, plan)
    kept, again = (inner.record(RunId("tiny", member.run)) for member in plan.members)
    before = kept.read_bytes()

    assert cli.main(WORDS) == 0
    assert "2 runs, 2 of them done already" in capsys.readouterr().out
    assert contents(project) == first

    again.write_text("{")
    assert cli.main([*WORDS, "--workers", "1"]) == 0
    assert "2 runs, 1 of them done already" in capsys.readouterr().out
    assert kept.read_bytes() == before, "a run that was done must not be done again"
    assert contents(project) == first
    table = pd.read_parquet(project.root / "book/runs/tiny/sweep-eps.parquet")
    assert list(table["parameter.epsilon"].unique()) == [0.1, 0.2]
    assert records.load(again).overrides == {"epsilon": 0.2}


def test_members_start_no_workers_of_their_own(snakefile):
    edit(
        snakefile.notebook("tiny"),
        "object(), Path.cwd()",
        'assert os.environ["ROBUSTBOOK_WORKERS"] == "1"',
    )
    edit(
        snakefile.notebook("tiny"),
        'if what == "die"',
        'assert os.environ["OMP_NUM_THREADS"] == "1"\nif what == "die"',
    )
    assert cli.main([*WORDS, "--workers", "2"]) == 0


def test_a_failed_member_is_told_and_no_page_is_written(snakefile, capsys):
    assert (
        cli.main(
            [
                "sweep",
                "tiny",
                "-p",
                "what",
                "raise,user_error",
                "--name",
                "bad",
                "--workers",
                "2",
            ]
        )
        == 1
    )
    said = capsys.readouterr().err
    assert "ValueError: the sky fell" in said
    assert "MNIST is not here" in said
    assert "2 of 2 runs failed" in said
    assert contents(snakefile) == {}


def test_a_member_waits_for_another_process_that_has_it(ran, monkeypatch):
    plan = SweepPlan(
        "tiny",
        "eps",
        {"epsilon": [0.1, 0.2]},
        1,
        "",
        (Member("epsilon-0-1", {"epsilon": 0.1}, 0),),
    )
    sweep.write(ran, plan, plan.members)
    given = {}
    monkeypatch.setattr(
        sweep.runner, "perform", lambda *words, **options: given.update(options)
    )
    sweep.member(ran, "tiny.eps", "epsilon-0-1")
    assert given == {"wait": True}
    with pytest.raises(UserError, match="has no run 'other'"):
        sweep.member(ran, "tiny.eps", "other")


def test_a_damaged_plan_is_told(ran):
    plan = SweepPlan("tiny", "eps", {}, 2, "", (Member("a", {}, 0),))
    sweep.write(ran, plan, plan.members)
    assert sweep.read(ran, "tiny.eps") == plan
    path = sweep.folder_of(ran, "tiny.eps") / "plan.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(UserError, match=r"the plan of sweep tiny\.eps is damaged"):
        sweep.read(ran, "tiny.eps")


# Table and page
# --------------------------------------------------------------------------------------


def made(seeds=2):
    """A sweep over two budgets whose metric is 2 * epsilon + repetition / 10 for `a`,
    its negative for `b`.
    """
    members, found = [], {}
    for epsilon in (0.1, 0.2):
        for repetition in range(seeds):
            name = f"e{epsilon * 10:.0f}-r{repetition}"
            members.append(
                Member(
                    name,
                    {"epsilon": epsilon, "first_seed": repetition, "steps": 5},
                    repetition,
                )
            )
            value = 2 * epsilon + repetition / 10
            rows = [
                Metric(
                    name="mean",
                    value=sign * value,
                    n=3,
                    unit="nats",
                    factors={"kind": kind, "epsilon": epsilon},
                )
                for kind, sign in (("a", 1), ("b", -1))
            ]
            found[name] = make_record(
                run=name,
                metrics=[*rows, Metric(name="share", value=1.0, factors={"k": 3})],
            )
    return SweepPlan(
        "tiny", "eps", {"epsilon": [0.1, 0.2]}, seeds, "first_seed", tuple(members)
    ), found


def test_the_table_has_a_line_for_every_row_of_every_run():
    plan, found = made()
    table = sweep_table.table(plan, found)
    assert len(table) == 4 * 3
    line = table[(table["run"] == "e2-r1") & (table["factor.kind"] == "b")].iloc[0]
    assert (
        line["parameter.epsilon"],
        line["parameter.first_seed"],
        line["repetition"],
    ) == (0.2, 1, 1)
    assert (line["value"], line["n"], line["unit"], line["factor.epsilon"]) == (
        -0.5,
        3,
        "nats",
        0.2,
    )
    assert pd.isna(line["low"])
    assert table["factor.k"].dropna().tolist() == [3] * 4


def test_the_table_is_read_back_as_it_was(tmp_path):
    plan, found = made()
    table = sweep_table.table(plan, found)
    (tmp_path / "t.parquet").write_bytes(sweep_table.to_parquet(table))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "t.parquet"), table, check_dtype=False
    )
    (tmp_path / "t.csv").write_bytes(sweep_table.to_csv(table))
    assert pd.read_csv(tmp_path / "t.csv")["value"].tolist() == table["value"].tolist()


def test_columns_of_several_kinds_become_text():
    plan, found = made(1)
    mixed = [
        Metric(name="m", value=1, factors={"f": value}) for value in (1, "x", True)
    ]
    table = sweep_table.table(
        plan,
        {
            name: record.model_copy(update={"metrics": mixed})
            for name, record in found.items()
        },
    )
    assert table["factor.f"].tolist() == ["1", "x", "True"] * 2
    assert sweep_table.to_parquet(table)


def test_the_page_draws_series_without_the_axis_factor_and_says_what_the_bands_are(
    project,
):
    plan, found = made()
    path = sweep_page.publish_all(project, plan, found, ["mean"])
    text = path.read_text()
    assert "mean (kind a): 0.25 at 0.1, 0.45 at 0.2" in text
    assert "95 % interval of the mean over 2 repetitions" in text
    assert "`steps` = `5`" in text
    assert "2 reproduced" in text
    assert sweep_page.publish_all(project, plan, found, ["mean"]).read_text() == text
    assert (
        "One repetition a point, so no band"
        in sweep_page.publish_all(project, *made(1), ["mean"]).read_text()
    )
    with pytest.raises(UserError, match="unknown metric 'meen': did you mean 'mean'"):
        sweep_page.publish_all(project, plan, found, ["meen"])


def test_bands_are_students_intervals_of_the_mean():
    from matplotlib import pyplot

    plan, found = made(3)
    drawn = sweep_page.chosen(plan, found, sweep_table.table(plan, found), ["mean"])
    _, ax = pyplot.subplots()
    sweep_page.draw(ax, plan, drawn[drawn["series"] == "kind a"])
    low, high = (
        ax.collections[0].get_paths()[0].vertices[:, 1].min(),
        ax.collections[0].get_paths()[0].vertices[:, 1].max(),
    )
    half = 4.302652729911275 * 0.1 / 3**0.5
    assert (low, high) == (pytest.approx(0.3 - half), pytest.approx(0.5 + half))
    pyplot.close("all")


def test_series_beyond_the_limit_are_counted():
    plan, found = made(1)
    many = [Metric(name="m", value=k, factors={"k": k}) for k in range(10)]
    frame = sweep_table.table(
        plan,
        {
            run: record.model_copy(update={"metrics": many})
            for run, record in found.items()
        },
    )
    drawn = sweep_page.chosen(plan, found, frame, ["m"])
    assert drawn["series"].nunique() == sweep_page.SERIES
    assert "4 more series are in the table" in sweep_page.caption(plan, drawn)


def test_the_caption_speaks_of_bands_where_there_are_some():
    for plan in (made(2)[0], replace(made(2)[0], axes={})):
        drawn = pd.DataFrame(
            {"name": ["m"] * 2, "series": ["all"] * 2, "value": [1.0, 2.0]}
        )
        drawn[sweep_page.horizontal(plan)] = [1, 2]
        drawn.attrs["left out"] = 0
        assert ("Bands" in sweep_page.caption(plan, drawn)) == bool(plan.axes)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_text("old")
    monkeypatch.setattr(
        files.os,
        "replace",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    with pytest.raises(OSError, match="No space"):
        files.write_whole(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
