"""A run of bastions in rounds, and the works that are not measured in rounds."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests import bastion_contenders
from loadtests.bastion_contenders import KUBE, OURS, OURS_SHARED, BastionSetup
from loadtests.bastion_measure import (
    WORKS,
    BastionGenerator,
    digest,
    expected_digest,
)
from loadtests.bastion_scene import Cluster, Places, Pod, populate
from loadtests.bench import PacedBench, say
from loadtests.contenders import Contender, Forward
from loadtests.http_files import Files


class BastionBench(PacedBench):
    """One run: pods, a cluster that knows them, the contenders."""

    slowpoke = KUBE

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
