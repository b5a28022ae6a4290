"""python -m lab up | down | status | image | install | run | podman | enter."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import host, image, lifecycle, namespace, oneshot, podman
from lab.command import LabError
from lab.image import RECIPES
from lab.names import CHECKOUT, LOCK
from lab.progress import say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A fleet of containers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="make and start what is not there yet")
    down = commands.add_parser("down", help="remove every trace but the images")
    down.add_argument("--images", action="store_true", help="remove the images as well")
    commands.add_parser("status", help="what is there")
    make = commands.add_parser("image", help="make an image and print its name")
    make.add_argument("name", choices=sorted(RECIPES), nargs="?", default="fleet")
    install = commands.add_parser("install", help="install the Debian packages that files name")
    install.add_argument("files", type=Path, nargs="+", metavar="FILE", help="one name in a line")
    run = commands.add_parser("run", help="run a command in a new container of an image")
    run.add_argument("--image", choices=sorted(RECIPES), default="fleet")
    run.add_argument("--folder", type=Path, help="a folder to be seen, read-only, as /mnt")
    direct = commands.add_parser("podman", help="run podman as the lab does")
    enter = commands.add_parser("enter", help="run a command (a shell) where the lab's podman runs")
    for last in (run, direct, enter):
        last.add_argument("argv", nargs=argparse.REMAINDER, metavar="...")
    return parser


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other command changes this checkout's lab."""
    lock = CHECKOUT / LOCK
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab command of this checkout")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _main(arguments: argparse.Namespace) -> int:
    command = arguments.command
    rest: list[str] = getattr(arguments, "argv", [])
    if rest[:1] == ["--"]:
        rest = rest[1:]
    if command == "status":
        return lifecycle.status()
    with _alone():
        if command == "up":
            lifecycle.up()
            return 0
        if command == "down":
            lifecycle.down(images=arguments.images)
            return 0
        if command == "install":
            names = [name for path in arguments.files for name in path.read_text().split()]
            host.install(host.lacking(names))
            return 0
        lifecycle.prepare()
        if command == "image":
            print(image.ensure(RECIPES[arguments.name]))
            return 0
        if command == "run":
            name = image.ensure(RECIPES[arguments.image])
            rest = oneshot.arguments(name, rest, arguments.folder, with_stdin=True)
    if command == "enter":
        settings = {"CONTAINERS_CONF": str(podman.CONF)}
        argv = namespace.inside(rest or [os.environ.get("SHELL", "/bin/sh")], settings)
    else:
        argv = podman.command(rest)
    os.execvp(argv[0], argv)


def main() -> int:
    try:
        return _main(_parser().parse_args())
    except LabError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make lab-down` removes what is there")
        return 130


if __name__ == "__main__":
    sys.exit(main())
