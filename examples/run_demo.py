"""`make demo`: an example proposal whose runs arrive while the daemon fills their rows.

Makes demo/p001234 with runs in EuXFEL's file format, starts the daemon under Supervisor, lets five
runs arrive as a migration would, and shows the table as it fills. The daemon stays up until
`make demo-stop`. Called again, it starts from nothing.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import example_runs
from rich.console import Console
from rich.live import Live
from run_table import RunTable, read

from daemon.cli.connection import connect
from daemon.supervisor import shutdown

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / "demo"
RAW_SECONDS, PROC_SECONDS = 2.0, 1.0  # how long each run takes to arrive
GIVE_UP_SECONDS = 180


class Demo:
    """One demonstration, from nothing to a filled table."""

    def __init__(self, console: Console, place: Path, runs: list[int]) -> None:
        """Prepare to show on `console` how `runs` arrive in a proposal in `place`."""
        self.console = console
        self.place = place
        self.proposal = place / f"p{example_runs.PROPOSAL:06d}"
        self.folder = self.proposal / "usr" / "Shared" / "amore"
        self.runs = runs
        self.began = time.monotonic()

    def run(self) -> None:
        """Make the proposal, start the daemon, let runs arrive, show what becomes of them."""
        self.make_proposal()
        number, context = str(example_runs.PROPOSAL), str(HERE / "context.py")
        self.runtable("init", str(self.folder), "--proposal", number, "--context", context)
        self.runtable("db-config", "settle_seconds", "1", "--in", str(self.folder))
        self.runtable("listen", str(self.folder), "--daemonize")
        arrival = threading.Thread(target=self.let_runs_arrive, daemon=True)
        arrival.start()
        table = self.follow(arrival)
        self.close(table)

    def stop(self) -> None:
        """End the daemon and its Supervisor."""
        shutdown(self.folder)

    def say(self, text: str, style: str = "") -> None:
        """Print `text` behind the seconds since the beginning."""
        seconds = f"{time.monotonic() - self.began:5.1f} s"
        self.show(f"{seconds}  {text}", style)

    def show(self, text: str, style: str = "") -> None:
        """Print `text` as it is."""
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def make_proposal(self) -> None:
        """Make all runs' files in a place of their own, and an empty proposal for them."""
        if self.place.exists():
            self.say("An earlier demo is stopped and removed.")
            self.stop()
            shutil.rmtree(self.place)
        for data in ("raw", "proc"):
            (self.proposal / data).mkdir(parents=True)
        for run in self.runs:
            example_runs.make_raw(self.staged("raw", run), run)
            example_runs.make_proc(self.staged("proc", run), run)
        self.say(f"Made {len(self.runs)} example runs, raw and calibrated, waiting to be migrated.")

    def staged(self, data: str, run: int) -> Path:
        """Where the files of `run` wait for their migration."""
        return self.place / "staging" / data / f"r{run:04d}"

    def runtable(self, *words: str) -> None:
        """Run the command line with `words`, and show both command and answer."""
        self.say("$ runtable " + " ".join(shorten(word) for word in words), style="bold")
        command = [str(Path(sys.executable).with_name("runtable")), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        for line in (done.stdout + done.stderr).splitlines():
            self.show(f"         {shorten(line)}")
        if done.returncode != 0:
            raise SystemExit(done.returncode)

    def let_runs_arrive(self) -> None:
        """Let one run after the other arrive; calibrated data follows each."""
        for run in self.runs:
            for data, seconds in (("raw", RAW_SECONDS), ("proc", PROC_SECONDS)):
                self.say(f"{data}/r{run:04d} arrives")
                target = self.proposal / data / f"r{run:04d}"
                example_runs.arrive(self.staged(data, run), target, seconds)

    def follow(self, arrival: threading.Thread) -> RunTable:
        """Show the table while it fills, until all that arrived has been processed."""
        live = Live(console=self.console, auto_refresh=False)
        table, done = RunTable({}, {}), False
        with live if self.console.is_terminal else nullcontext():
            while not done:
                done = not arrival.is_alive() and self.all_processed()
                before, table = table, read(self.folder / "runs.sqlite")
                if self.console.is_terminal:
                    live.update(table.render(self.runs), refresh=True)
                else:
                    self.print_new(before, table)
                if time.monotonic() - self.began > GIVE_UP_SECONDS:
                    raise SystemExit(
                        f"not all runs were processed within {GIVE_UP_SECONDS} s: "
                        f"see {self.folder}/amore.log and {self.folder}/process_logs/"
                    )
                time.sleep(0.2)
        return table

    def all_processed(self) -> bool:
        """Whether raw and proc jobs of every run have ended and nothing waits."""
        with connect(self.folder) as service:
            jobs = service.call("jobs", limit=1000)["jobs"]
        ended = {(job["run"], job["data"]) for job in jobs if job["ended"] is not None}
        busy = any(job["ended"] is None for job in jobs)
        return not busy and ended >= {(run, data) for run in self.runs for data in ("raw", "proc")}

    def print_new(self, before: RunTable, table: RunTable) -> None:
        """Print a line for each value that has come since `before`."""
        for key, cell in table.cells.items():
            if before.cells.get(key) != cell:
                run, name = key
                self.say(f"  run {run}  {table.titles[name]:<24}  {cell.text}")

    def close(self, table: RunTable) -> None:
        """Print the whole table, why cells are empty, and how to go on."""
        if not self.console.is_terminal:  # a terminal still shows it
            self.console.print(table.render(self.runs))
        self.show("")
        for line in table.problems():
            self.show(f"  {line}")
        self.say(f"All {len(self.runs)} runs are processed; the daemon waits for more.")
        tools = Path(sys.executable).parent
        self.show(
            f"""
The database folder is {self.folder}
To go on:

    cd {os.path.relpath(self.folder)}
    export PATH={tools}:$PATH
    runtable status
    runtable reprocess 3
    supervisorctl -c supervisord.conf status damnit

Edit context.py there: the next run is processed with it, earlier ones by `runtable reprocess all`.
`make demo-stop` in {HERE.parent} ends the daemon."""
        )


def shorten(text: str) -> str:
    """`text` with paths as seen from the current folder."""
    return text.replace(f"{Path.cwd()}/", "")


if __name__ == "__main__":
    demo = Demo(Console(), PLACE, [1, 2, 3, 4, 5])
    if sys.argv[1:] == ["stop"]:
        demo.stop()
    else:
        demo.run()
