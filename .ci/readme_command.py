"""Print the command that the README gives under ``<!-- command: NAME -->``."""

import re
import sys
from pathlib import Path

readme = (Path(__file__).parents[1] / "README.md").read_text()
[command] = re.findall(rf"<!-- command: {sys.argv[1]} -->\n```sh\n(.*?)```", readme, re.DOTALL)
print(command)
