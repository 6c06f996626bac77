"""Fails unless two results folders hold the same files with the same bytes, wall-clock figures in run.json aside."""

import json
import sys
from pathlib import Path


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def content(path):
    if path.name == "run.json":
        run = json.loads(path.read_text())
        del run["wall_clock"]
        return run
    return path.read_bytes()


one, two = (Path(argument) for argument in sys.argv[1:3])
if files(one) != files(two):
    sys.exit(f"only in one of the folders: {sorted(files(one) ^ files(two))}")
different = [name for name in sorted(files(one)) if content(one / name) != content(two / name)]
if different or not files(one):
    sys.exit(f"these differ: {different}" if different else "no results at all")
print(f"{len(files(one))} files are equal")
