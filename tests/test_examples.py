"""The examples are what they seem: scripts that bash can read, YAML that says what it must, commands that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml
from tilth.cli.train import train

EXAMPLES = Path(__file__).parents[1] / "examples"
SHARED = {"TILTH_CACHE", "HF_HOME"}
"""Where models are, which every machine must find: in the workspace, which all have."""


def test_the_slurm_script_is_bash() -> None:
    script = EXAMPLES / "train.slurm"
    subprocess.run(["bash", "-n", str(script)], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, "--exclude=SC2016", str(script)], check=True)  # single quotes: for each machine
    inner = script.read_text().split("bash -c '")[1].rsplit("'", 1)[0]
    subprocess.run(["bash", "-n", "-c", inner], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script.read_text(), re.MULTILINE))
    shared = dict(re.findall(r'(\w+)="(\$PWD/[^"]+)"', script.read_text()))
    assert shared.keys() == SHARED
    assert (options["nodes"], options["ntasks-per-node"], options["signal"]) == ("2", "1", "TERM@300")


def test_the_kubernetes_job_starts_one_pod_for_each_machine() -> None:
    job = yaml.safe_load((EXAMPLES / "train-pytorchjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"] == replicas["Worker"]
    machine = replicas["Master"]
    [container] = machine["template"]["spec"]["containers"]
    assert container["name"] == "pytorch"  # the operator gives its variables to the container of this name only
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(job["spec"]["nprocPerNode"]) == 8
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    shared = {variable["name"]: variable["value"] for variable in container["env"]}
    assert shared.keys() == SHARED
    assert all(folder.startswith(mounted["workspace"] + "/") for folder in shared.values())
    assert mounted.keys() == {volume["name"] for volume in machine["template"]["spec"]["volumes"]}
    subprocess.run(["bash", "-n", "-c", container["args"][0]], check=True)


def test_their_flags_are_those_of_the_command() -> None:
    known = {name.replace("_", "-") for name in train.__annotations__}
    for file in EXAMPLES.iterdir():
        for command in re.findall(r"exec tilth train (.*?)(?=\n'|\n *resources)", file.read_text(), re.DOTALL):
            assert set(re.findall(r"--([a-z-]+)", command)) <= known
            assert {"nodes", "rendezvous", "node-rank"} <= set(re.findall(r"--([a-z-]+)", command))
