"""Run by the Python in which the published `damnit` package is installed.

`python peer_reader.py FOLDER RUN OUT.json` writes what its API gives for every variable of a run.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
sys.path.append(str(Path(__file__).parents[1]))

from damnit import Damnit  # noqa: E402
from described import everything  # noqa: E402

folder, run, out = sys.argv[1:]
Path(out).write_text(json.dumps(everything(Damnit(folder), int(run))), encoding="utf-8")
