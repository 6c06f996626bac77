"""Fails unless the shipped program finds the digests of tests/golden/digests.txt, which `cargo test` has found too."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

simlab, golden = sys.argv[1:3]
expected = {}
for line in Path(golden).read_text().splitlines():
    if not line.startswith("#"):
        path, settings, strategy, *figures = line.split()
        expected.setdefault((path, settings), {})[strategy] = figures

failed = []
for (path, settings), strategies in expected.items():
    with tempfile.TemporaryDirectory() as folder:
        options = [option for setting in settings.split(",") for option in ("--set", setting)]
        done = subprocess.run(
            [simlab, "run", path, *options, "--replications", "1", "--quiet", "--out", folder], stdout=subprocess.DEVNULL
        )
        # 99: a threshold failed, which shortened scenarios may.
        if done.returncode not in (0, 99):
            sys.exit(f"{path}: exit code {done.returncode}")
        run = json.loads((Path(folder) / "run.json").read_text())
    for strategy in run["strategies"]:
        found = strategy["replications"][0]
        figures = [found["digest"], *(str(found[figure]) for figure in ("requests", "hops", "events"))]
        if strategies.pop(strategy["name"], None) != figures:
            failed.append(f"{path} {strategy['name']}: {figures}")
    failed += [f"{path} {strategy}: not run" for strategy in strategies]
if failed or not expected:
    sys.exit("\n".join(["golden digests differ:", *failed]))
print(f"{len(expected)} scenarios have their golden digests")
