"""Hosts on one machine: a network namespace each, with its own address, name and Slurm daemon.

Needs Linux, root, and Debian's `slurm-wlm` and `munge`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NETWORK = "10.77.0"
TOOLS = ("ip", "unshare", "munged", "slurmctld", "slurmd", "sbatch", "scontrol")
CONF = """
ClusterName=hosts
SlurmctldHost={here}({network}.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=10
MpiDefault=none
"""


def missing() -> str | None:
    """What this machine lacks to be several hosts; None if nothing."""
    if os.name != "posix" or os.geteuid() != 0:
        return "root"
    return next((tool for tool in TOOLS if shutil.which(tool) is None), None)


def wait_for(what: Callable[[], object], seconds: float, name: str) -> None:
    """Waits until `what()` is true; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"{name} did not happen in {seconds:g} s"
        time.sleep(0.3)


class Hosts:
    """`with Hosts(folder, 2) as hosts`: a cluster of hosts h1, h2, whose logs lie in `folder`."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.names = folder, [f"h{i + 1}" for i in range(count)]
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> Hosts:
        try:
            self._network()
            self._configure()
            munge = self.folder / "munge"
            place = [f"--{x}-file={munge / x}" for x in ("key", "pid", "log", "seed")]
            self._start(["munged", "-f", "-F", f"--socket={munge / 'socket'}", *place], "munged")
            wait_for((munge / "socket").exists, 20, "munged")
            self._start(["slurmctld", "-D"], "slurmctld")
            for name in self.names:
                self.start(name)
            wait_for(lambda: self.said("sinfo", "-h", "-o", "%T") == "idle", 60, "idle hosts")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            self.kill(name)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(timeout=30)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True)
            shutil.rmtree(f"/etc/netns/{self._space(name)}", ignore_errors=True)
        subprocess.run(["ip", "link", "del", "sfbridge"], capture_output=True)

    def start(self, name: str) -> None:
        """Starts a host: its Slurm daemon, under its own name and address."""
        # slurmd asks for control groups although it uses none here
        within = f"hostname {name}; mount -t tmpfs none /sys/fs/cgroup; exec slurmd -D -N {name}"
        words = ["ip", "netns", "exec", self._space(name), "unshare", "--uts", "--mount"]
        self._start([*words, "sh", "-c", within], f"slurmd-{name}")

    def kill(self, name: str) -> None:
        """Ends every process of a host at once, as when its power fails."""
        found = subprocess.run(
            ["ip", "netns", "pids", self._space(name)], capture_output=True, text=True
        )
        for pid in map(int, found.stdout.split()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def submit(self, script: Path, *words: str, flags: Sequence[str] = ()) -> str:
        """Submits a script; returns the job's number."""
        where = [f"--chdir={self.folder}", f"--output={self.folder}/job-%A-%a.log"]
        return self.said("sbatch", "--parsable", *where, *flags, str(script), *words)

    def state(self, job: str) -> str:
        """The job's states, such as RUNNING or COMPLETED; several of an array."""
        told = self.said("scontrol", "show", "job", job)
        states = {w.removeprefix("JobState=") for w in told.split() if w.startswith("JobState=")}
        return "+".join(sorted(states))

    def said(self, *words: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words[0]}: {done.stderr}"
        return done.stdout.strip()

    def _space(self, name: str) -> str:
        return f"sf-{name}"

    def _start(self, words: Sequence[str], log: str) -> None:
        with open(self.folder / f"{log}.out", "a") as out:
            started = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.daemons.append(started)

    def _network(self) -> None:
        """A bridge, and a namespace with an address on it for every host."""
        table = "127.0.0.1 localhost\n" + "".join(
            f"{NETWORK}.{i} {name}\n" for i, name in enumerate(self.names, 1)
        )
        do = ["link add sfbridge type bridge", f"addr add {NETWORK}.254/24 dev sfbridge"]
        do.append("link set sfbridge up")
        for i, name in enumerate(self.names, 1):
            space, inside = self._space(name), f"netns exec {self._space(name)} ip"
            hosts = Path(f"/etc/netns/{space}/hosts")  # `ip netns exec` puts it over /etc/hosts
            hosts.parent.mkdir(parents=True, exist_ok=True)
            hosts.write_text(table)
            do += [
                f"netns add {space}",
                f"link add sfveth{i} type veth peer name eth0 netns {space}",
                f"link set sfveth{i} master sfbridge up",
                f"{inside} addr add {NETWORK}.{i}/24 dev eth0",
                f"{inside} link set eth0 up",
                f"{inside} link set lo up",
            ]
        for line in do:
            subprocess.run(["ip", *line.split()], check=True)

    def _configure(self) -> None:
        for name in ("munge", "state", *self.names):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o755)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        here = os.uname().nodename.split(".")[0]
        lines = [CONF.format(here=here, network=NETWORK, folder=self.folder)]
        for i, name in enumerate(self.names, 1):
            lines.append(f"NodeName={name} NodeAddr={NETWORK}.{i} CPUs=2 State=UNKNOWN")
        lines.append(f"PartitionName=all Nodes={','.join(self.names)} Default=YES State=UP")
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        # of the first version, which takes a folder for what it mounts
        said = "CgroupPlugin=cgroup/v1\nCgroupAutomount=yes\nCgroupMountpoint=/sys/fs/cgroup\n"
        (self.folder / "cgroup.conf").write_text(said)
