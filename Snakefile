# What is made of what: quick runs of all studies, then the book. `robustbook book` asks for the rule `html`.
#
# The runner decides what a run needs (a new run, new text, nothing) and publishes page and record in one step; here it
# is only said when to ask it. `update` keeps published files until they are replaced.
import json
import os
import shlex
import sys
from pathlib import Path

from robustbook.sources import ROOMS

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

# What is left of a sweep, as `robustbook sweep` wrote it down; no sweep unless one is named.
SWEEP = config.get("sweep", "")
LEFT = json.loads(Path(f".robustbook/sweeps/{SWEEP}/plan.json").read_text())["pending"] if SWEEP else []

STUDIES = sorted(path.stem for path in Path("notebooks").glob("*.py"))
CORES = 1 if SWEEP else workflow.cores or 1
SIDE_BY_SIDE = max(1, min(len(STUDIES), CORES))
THREADS = max(1, min(2, CORES // SIDE_BY_SIDE))
ROBUSTBOOK = f"{shlex.quote(sys.executable)} -m robustbook"

PACKAGE = sorted(str(path) for path in Path("src/robustbook").rglob("*.py"))
COMPUTING = [path for path in PACKAGE if Path(path).parts[2].removesuffix(".py") in ROOMS]
BOOK = sorted(
    str(path)
    for path in Path("book").rglob("*")
    if path.is_file() and path.parts[1] != "_build" and "__pycache__" not in path.parts
)
QUICK = [f"book/runs/{study}/quick.{kind}" for study in STUDIES for kind in ("ipynb", "json")]


wildcard_constraints:
    study="[a-z][a-z0-9_]*",
    sweep=r"[a-z][a-z0-9_]*\.[a-z0-9-]+",
    member="[a-z0-9-]+",


rule html:
    input:
        sorted({*QUICK, *BOOK}),
        PACKAGE,
        expand("notebooks/{study}.py", study=STUDIES),
        sorted(str(path) for path in Path("notebooks/runs").glob("*.yml")),
        "_config.yml",
        "_toc.yml",
    output:
        touch("book/_build/html/.rendered"),
    params:
        robustbook=ROBUSTBOOK,
        jupyter_book=Path(sys.executable).with_name("jupyter-book"),
        root=os.getcwd(),
    shell:
        "{params.robustbook} refresh && {params.robustbook} render -- "
        "{params.jupyter_book:q} build book --path-output book --config _config.yml --toc {params.root:q}/_toc.yml"
        " --all -q -W -n --keep-going"


rule quick:
    input:
        COMPUTING,
        "notebooks/{study}.py",
        "notebooks/runs/quick.yml",
    output:
        update("book/runs/{study}/quick.ipynb"),
        update("book/runs/{study}/quick.json"),
    threads: THREADS
    params:
        robustbook=ROBUSTBOOK,
    shell:
        "OMP_NUM_THREADS={threads} ROBUSTBOOK_WORKERS={threads} {params.robustbook} run {wildcards.study} -r quick --if-stale"


rule sweep:
    input:
        expand(".robustbook/sweeps/{sweep}/done/{member}", sweep=SWEEP or "none", member=LEFT),


rule member:
    output:
        touch(".robustbook/sweeps/{sweep}/done/{member}"),
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        robustbook=ROBUSTBOOK,
    shell:
        # Runs stand side by side, so none starts workers of its own.
        "OMP_NUM_THREADS={threads} ROBUSTBOOK_WORKERS={threads} {params.robustbook} sweep-member {wildcards.sweep} {wildcards.member}"
