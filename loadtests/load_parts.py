"""What the files of locust share: options, the scene, the judgement, the shape."""

import json
import subprocess
import sys
from argparse import ArgumentParser
from functools import partial
from typing import Any, ClassVar

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import WorkerRunner


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Tell locust what every file can be told."""
    add = partial(parser.add_argument, include_in_web_ui=True)
    add("--shape", default="waves", choices=["waves", "steady"])
    add("--most-errors", type=float, default=0.0, help="share of requests, 0-1")


class Scene:
    """What is loaded, as a process with children of its own."""

    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the scene did not start")
        self.found: dict[str, str] = json.loads(line)

    def close(self) -> None:
        """End it, with all of its processes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def started(module: str, environment: Environment) -> Scene | None:
    """Start what is loaded where nobody has said what; it ends when locust does.

    Workers are told by their master.
    """
    if environment.host or isinstance(environment.runner, WorkerRunner):
        return None
    scene = Scene(module)
    events.quit.add_listener(lambda **_: scene.close())
    return scene


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit code."""
    if isinstance(environment.runner, WorkerRunner):
        return
    total = environment.stats.total
    most = environment.parsed_options.most_errors if environment.parsed_options else 0.0
    seen = {name.split(":")[0] for name, _ in environment.stats.entries}
    idle = sorted({each.__name__ for each in environment.user_classes} - seen)
    complaint = ""
    if idle:
        complaint = f"these did nothing: {', '.join(idle)}"
    elif total.fail_ratio > most:
        complaint = f"{total.fail_ratio:.4%} failed, more than {most:.4%}"
    said = environment.process_exit_code or 0  # by the file, which is asked first
    environment.process_exit_code = 1 if complaint else said
    verdict = complaint or f"{total.num_requests} requests, {total.num_failures} failed"
    sys.stderr.write(f"load: {verdict}\n")


class Waves(LoadTestShape):
    """Of --users and --run-time: as many all the time, or in waves.

    Waves: a fifth, all of them at once, a fifth again, half: what comes suddenly, and
    what is left over when it has gone.
    """

    abstract = True  # to locust: a file has a class of its own
    use_common_options = True
    fewest: ClassVar[int] = 1  # users: with fewer some kinds would be missing
    WAVES = ((0.2, 0.2), (0.5, 1.0), (0.7, 0.2), (1.0, 0.5))  # (until, users)

    def tick(self) -> tuple[int, float] | None:
        """Return how many there should be now; None = it is over."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        users = options.num_users or options.users or 60
        rate, total_s = options.spawn_rate or 20, options.run_time or 60
        at = self.get_run_time() / total_s
        if at >= 1.0:
            return None
        if options.shape == "steady":
            return users, rate
        share = next(share for until, share in self.WAVES if at < until)
        return max(self.fewest, round(users * share)), max(rate, users)
