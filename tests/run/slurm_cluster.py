"""A Slurm cluster of this one machine, without systemd and without accounting:
`cluster` starts and ends it.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "unshare")
PLACE = Path("/etc/slurm")
"""Where Slurm looks for its configuration."""
CONFIGURATION = """\
ClusterName=robustbook
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no cluster can be started here; empty where it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    if not PLACE.is_dir():
        return f"Slurm is not installed (no {PLACE}): apt-get install slurm-wlm munge"
    absent = [name for name in DAEMONS if shutil.which(name) is None]
    return (
        f"Slurm is not installed ({', '.join(absent)} missing): apt-get install "
        "slurm-wlm munge"
        if absent
        else ""
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def node(folder: Path, configuration: Path) -> list[str]:
    """The node daemon, for which and for whose jobs `folder` stands in the place of
    /etc/slurm.

    Inside a job, Snakemake's plugin passes on no variable that would say where the
    configuration is.
    """
    start = f"mount --bind {folder} {PLACE} && exec slurmd -D -f {configuration}"
    return ["unshare", "--mount", "sh", "-c", start]


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Start munge, controller and node daemon with all their files in `folder`; yields
    the configuration file.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    memory = psutil.virtual_memory().total // 2**20
    cpus = max(2, os.cpu_count() or 1)
    configuration.write_text(
        CONFIGURATION.format(
            host=host, ports=free_ports(2), folder=folder, cpus=cpus, memory=memory
        )
    )
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
    ]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    commands = [
        munge,
        ["slurmctld", "-D", "-c", "-f", str(configuration)],
        node(folder, configuration),
    ]
    running = []
    try:
        for words in commands:
            with (folder / f"{words[0]}.out").open("wb") as out:
                running.append(
                    subprocess.Popen(
                        words, env=environment, stdout=out, stderr=subprocess.STDOUT
                    )
                )
            time.sleep(1.0)
        _wait_for_node(environment, folder)
        yield configuration
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_node(
    environment: dict[str, str], folder: Path, seconds: float = 60
) -> None:
    end = time.monotonic() + seconds
    state = ""
    while time.monotonic() < end:
        told = subprocess.run(
            ["sinfo", "-h", "-o", "%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        state = told.stdout.strip() or told.stderr.strip()
        if state == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(
        path.read_text(errors="replace")[-2000:] for path in folder.glob("slurm*.log")
    )
    raise RuntimeError(f"the node is not idle but {state!r}:\n{logs}")
