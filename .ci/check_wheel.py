"""Compare a wheel's contents with the tracked files: all of the package, and nothing else."""

import subprocess
import sys
import zipfile

tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
links = {"frofa/estimators", "frofa/augmentations"}
expected = {name for name in tracked if name.startswith("frofa/") and name not in links}
for folder in ("estimators", "augmentations"):
    expected |= {f"frofa/{name}" for name in tracked if name.startswith(f"{folder}/")}
found = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
if found != expected:
    sys.exit(f"missing in the wheel: {sorted(expected - found)}\nnot tracked: {sorted(found - expected)}")
print(f"{sys.argv[1]}: {len(found)} files, all tracked ones and no other")
