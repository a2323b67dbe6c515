"""A sweep on a Slurm cluster: one node, started here, without accounting."""

import importlib.util
import shutil
import tempfile
from pathlib import Path

import pytest
import slurm_cluster
from run_helpers import contents

from robustbook import cli
from robustbook.run import sweep

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
WORDS = ["sweep", "tiny", "-p", "epsilon", "0.1,0.2", "--name", "eps", "--workers", "2"]


@pytest.fixture
def cluster(monkeypatch):
    """A running cluster; skips where Slurm or Snakemake's plugin for it is missing."""
    reason = slurm_cluster.missing()
    if (
        not reason
        and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None
    ):
        reason = (
            "snakemake-executor-plugin-slurm is not installed: pip install -e "
            "'.[slurm]'"
        )
    if reason:
        pytest.skip(reason)
    # Names of sockets are short, those of pytest's folders are not.
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        slurm_cluster.cluster(Path(folder)) as configuration,
    ):
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        yield


@pytest.mark.slow
def test_the_same_sweep_on_slurm_gives_the_same_table_as_here(project, cluster, capsys):
    shutil.copy(SNAKEFILE, project.root)
    polls = (
        "--slurm-init-seconds-before-status-checks 3 --seconds-between-status-checks 3"
    )
    code = cli.main([*WORDS, "--executor", "slurm", "--snakemake", polls])
    said = capsys.readouterr()
    log = sweep.folder_of(project, "tiny.eps") / "snakemake.log"
    assert code == 0, said.err + log.read_text()[-4000:]
    assert "SLURM" in log.read_text()
    on_slurm = contents(project)
    shutil.rmtree(sweep.folder_of(project, "tiny.eps"))
    assert cli.main(WORDS) == 0
    assert contents(project) == on_slurm
