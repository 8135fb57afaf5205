"""cluster.py - starts a Slurm cluster on one machine: slurmctld, munged, and nodes with their own
network and host name. The cluster runs in Linux namespaces that end with the test, so it changes
nothing outside of its folder. Needs the standard library only."""
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import common

TOOLS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "ip", "unshare", "nsenter", "taskset", "mpirun")
INSIDE = "PLUMB_INSIDE_NAMESPACES"
NAMESPACES = ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]

CONF = """ClusterName=plumb
SlurmctldHost=login(10.77.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
KillWait=15
MpiDefault={mpi}
ReturnToService=2
NodeName={nodes} CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def enter():
    """Restarts this script in new namespaces, or skips the test if that is impossible."""
    if os.environ.get(INSIDE):
        return
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        common.skip(f"there is no {', '.join(missing)}; ./launch/install.sh slurm installs Slurm for the tests")
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if os.geteuid() != 0 or tried.returncode != 0:
        common.skip("no right to make network and process namespaces " + tried.stderr.strip()[-200:])
    os.execvpe(NAMESPACES[0], [*NAMESPACES, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def sh(command):
    subprocess.run(command, shell=True, check=True, timeout=60)


class Job:
    """The fields that `scontrol show job` prints about a job, as `field`: {name: value}. It is
    empty if Slurm no longer has the job."""

    def __init__(self, text):
        self.field = dict(re.findall(r"(\w+)=(\S*)", text))

    def __getattr__(self, name):
        return self.field.get(name, "")


class Cluster:
    def __init__(self, folder, nodes=("sn1", "sn2", "sn3"), mpi="pmix"):
        self.folder, self.nodes, self.mpi = Path(folder), nodes, mpi
        self.holder, self.daemon = {}, {}
        self.folder.mkdir()
        for name in ("state", "log", *(f"tmp.{n}" for n in nodes)):
            (self.folder / name).mkdir()
        self.env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "LC_ALL": "C"}
        for name in [n for n in self.env if n.startswith(("SLURM_JOB", "OMPI_", "PMIX_"))]:
            del self.env[name]

    # ---- starting ---------------------------------------------------------------------------

    def start(self):
        self.network()
        self.write_conf(self.mpi)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.daemon["munged"] = self.spawn(
            ["munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", f"--key-file={key}",
             f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
             f"--seed-file={self.folder}/munged.seed"], "munged")
        self.until(lambda: (self.folder / "munge.socket").exists(), 20, "munged")
        self.daemon["slurmctld"] = self.spawn(["slurmctld", "-D", "-i"], "slurmctld")
        for node in self.nodes:
            self.start_node(node)
        self.until(lambda: len(self.idle()) == len(self.nodes), 60, "all nodes idle")

    def network(self):
        names = "".join(f"10.77.0.{10 + i} {n}\n" for i, n in enumerate(self.nodes, 1))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n10.77.0.1 login\n{names}")
        sh(f"hostname login; mount --bind {self.folder}/hosts /etc/hosts; ip link set lo up;"
           "ip link add cluster type bridge; ip addr add 10.77.0.1/24 dev cluster; ip link set cluster up")
        for i, node in enumerate(self.nodes, 1):
            self.holder[node] = subprocess.Popen([*NAMESPACES, "sleep", "infinity"], stdin=subprocess.DEVNULL)
            self.until(lambda node=node: self.first(node), 20, node)
            pid = self.first(node)
            sh(f"ip link add v{i} type veth peer name e{i}; ip link set v{i} master cluster up;"
               f"ip link set e{i} netns {pid}; nsenter -t {pid} -n -u sh -c 'hostname {node}; ip link set lo up;"
               f"ip addr add 10.77.0.{10 + i}/24 dev e{i}; ip link set e{i} up'")

    def write_conf(self, mpi):
        (self.folder / "slurm.conf").write_text(CONF.format(
            folder=self.folder, nodes=",".join(self.nodes), mpi=mpi))
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def spawn(self, command, name):
        log = open(self.folder / "log" / f"{name}.out", "ab")
        return subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_node(self, node):
        """Starts the Slurm daemon of a node. The last node has one core, the other nodes have
        all cores of this machine."""
        cores = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if node == self.nodes[-1] else []
        self.daemon[node] = self.spawn(["nsenter", "-t", str(self.first(node)), "-n", "-u", "-p", "-m", *cores,
                                        "slurmd", "-D", "-N", node], node)

    def first(self, node):
        """Returns the process id of the first process inside a node, or 0 if it has not started
        yet."""
        pids = common.descendants(self.holder[node].pid)
        with contextlib.suppress(OSError):
            if pids and Path(f"/proc/{pids[0]}/comm").read_text() == "sleep\n":
                return pids[0]
        return 0

    def set_mpi_default(self, mpi):
        self.write_conf(mpi)
        self.tool("scontrol", "reconfigure")

    # ---- commands, jobs, waiting, and killing nodes -----------------------------------------

    def until(self, ready, seconds, what):
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                self.give_up(what)
            time.sleep(0.1)

    def give_up(self, what):
        print(f"FAILED: waiting for {what}")
        for log in sorted(self.folder.glob("*.log")):
            print(f"---- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        text = "".join(log.read_text(errors="replace") for log in self.folder.glob("slurmd.*.log"))
        if re.search("cgroup", text) and not self.idle():
            common.skip("this slurmd does not start here: " + re.findall(".*cgroup.*", text)[-1])
        raise SystemExit(1)

    def tool(self, *command, cwd=None):
        return subprocess.run(command, env=self.env, cwd=cwd, capture_output=True, text=True, check=True,
                              stdin=subprocess.DEVNULL, timeout=120).stdout

    def idle(self):
        shown = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %t"], env=self.env, capture_output=True, text=True,
                               check=False, timeout=60).stdout
        return [line.split()[0] for line in shown.splitlines() if line.split()[1] == "idle"]

    def submit(self, *args, cwd):
        return self.tool("sbatch", "--parsable", *[str(a) for a in args], cwd=cwd).strip()

    def job(self, number):
        shown = subprocess.run(["scontrol", "show", "job", "-o", number], env=self.env, capture_output=True,
                               text=True, check=False, timeout=60)
        return Job(shown.stdout)

    def wait(self, number, state, seconds=120):
        """Waits until the job, or every job of an array, has a final state. Returns true if this state is
        `state`. A state that Slurm replaces within 90 s, because the job goes back into the queue, is
        not final."""
        final = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")
        states, since = [], []

        def ready():
            shown = subprocess.run(["scontrol", "show", "job", "-o", number], env=self.env, capture_output=True,
                                   text=True, check=False, timeout=60).stdout
            states[:] = re.findall(r"JobState=(\w+)", shown)
            if not states or not all(s in final for s in states):
                since.clear()
                return False
            since.append(time.monotonic())
            return all(s == state for s in states) or since[-1] - since[0] > 90
        self.until(ready, seconds, f"job {number}, now {states}")
        return all(s == state for s in states)

    def processes(self, node, name):
        """Returns the ids of the processes on a node that run this program."""
        found = []
        here = os.readlink(f"/proc/{self.first(node)}/ns/pid")
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns/pid") == here and (path / "comm").read_text().strip() == name:
                    found.append(int(path.name))
        return found

    def kill_node_daemon(self, node):
        """Kills slurmd of a node. The processes of jobs on this node continue."""
        for pid in self.processes(node, "slurmd"):
            os.kill(pid, 9)
        self.daemon[node].wait()

    def kill_node(self, node):
        """Kills all processes of a node and disconnects its network, as a power failure does."""
        sh(f"ip link set v{self.nodes.index(node) + 1} down")
        os.kill(self.first(node), 9)
        self.daemon[node].wait()
