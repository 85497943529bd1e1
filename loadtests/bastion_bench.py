"""A run of bastions in rounds, and the works that are not measured in rounds."""

import argparse
import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests import bastion_contenders, report
from loadtests.bastion_contenders import KUBE, OURS, OURS_SHARED, BastionSetup
from loadtests.bastion_measure import (
    WORKS,
    BastionGenerator,
    digest,
    expected_digest,
)
from loadtests.bastion_scene import Cluster, Places, Pod, populate
from loadtests.bench import Bench, say
from loadtests.contenders import Contender, Forward
from loadtests.http_files import Files
from loadtests.measure import Work

SPARE = 1.2  # below this many times the rate of `half`, `half` overloads it


class BastionBench(Bench):
    """One run: pods, a cluster that knows them, the contenders."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(options, folder)
        self.files = Files(folder)
        self.files.make()
        self.configurations: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        """All works of the options; what is not a sample is returned."""
        from loadtests import bastion_days

        found: dict[str, Any] = {}
        with ExitStack() as stack:
            generator, places, cluster = self.scene(stack)
            field: list[Contender | None] = [None]
            names = self.options.contenders
            field += [self.start(name, places, cluster, stack) for name in names]
            for name in self.options.works:
                if name in WORKS:
                    self._work(generator, self._rated(WORKS[name]), field)
            if "download" in self.options.works:
                found["digests"] = self._digests(field)
        for name, run in bastion_days.RUNS.items():
            if name in self.options.works:
                found[name] = run(self)
        return found

    def scene(self, stack: ExitStack) -> tuple[BastionGenerator, Places, Cluster]:
        """Start pods and the cluster."""
        generator = BastionGenerator(
            stack, self.generator_cores, self.folder, self.files
        )
        self.many = [
            stack.enter_context(Pod(self.files, self.generator_cores, self.folder))
            for _ in range(3)
        ]
        places = Places(generator.echo_port, tuple(pod.port for pod in self.many))
        cluster = Cluster(stack, self.files, self.generator_cores, self.folder)
        populate(cluster.call, places)
        return generator, places, cluster

    def start(
        self, name: str, places: Places, cluster: Cluster, stack: ExitStack
    ) -> Contender:
        """Start one contender."""
        # Ours has an admin address beside; no other has anything there.
        ports = [
            next(self.ports) for _ in range(2 if name in (OURS, OURS_SHARED) else 1)
        ]
        setup = BastionSetup(
            tuple(Forward(port, ()) for port in ports),
            self.workers,
            self.proxy_cores,
            self.descriptors,
            self.folder / name,
            self.files,
            places,
            cluster,
        )
        say(f"starting {name}")
        contender = bastion_contenders.start(name, setup, stack)
        self.configurations[name] = bastion_contenders.configuration(name, setup.folder)
        return contender

    def _rate(self, name: str) -> float:
        return report.Samples(self.samples, "get").values(name, "rate").median

    def _rated(self, work: Work) -> Work:
        if work.name != "half":
            return work
        # kube-apiserver is so much slower that half of its rate is no load for others.
        names = [name for name in self.options.contenders if name != KUBE]
        slowest = min(self._rate(name) for name in names or [KUBE])
        return dataclasses.replace(work, rate=slowest / 2)

    def _work(
        self,
        generator: BastionGenerator,  # type: ignore[override]
        work: Work,
        field: Sequence[Contender | None],
    ) -> None:
        if work.name == "half":
            enough = SPARE * work.rate
            slow = [c for c in field if c and self._rate(c.name) < enough]
            for contender in slow:
                say(f"half: {contender.name} cannot do {enough:,.0f}/s: left out")
            field = [c for c in field if c not in slow]
        super()._work(generator, work, field)

    def _digests(self, field: Sequence[Contender | None]) -> list[dict[str, Any]]:
        """Download everything once through each: the digest must be that of the pod."""
        wanted = expected_digest(self.files)
        found = []
        for contender in filter(None, field):
            size, summed = digest(contender.ports[0], self.files)
            is_right = (size, summed) == wanted
            entry = {"contender": contender.name, "bytes": size, "is_right": is_right}
            say(f"digest {entry}")
            found.append(entry)
        return found


__all__ = ["OURS", "BastionBench"]
