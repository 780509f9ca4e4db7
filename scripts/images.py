"""Builds the container files with buildah in a store of its own, and runs what they give.

Where the registry of the base image cannot be reached, debootstrap makes a Debian that takes its place.
A container here is: a namespace of processes, the image's files read-only, its user, and nothing but /tmp and
/cache to write to.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = ROOT / "deploy" / "containers"
# What Debian's slim images leave out as well.
SLIM = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"),
    *("var/cache/apt", "var/lib/apt/lists"),
)
SETPRIV = (
    *("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"),
    *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
)
START = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/mnt"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$1/cache"
mount -o remount,bind,ro "$1"
root=$1; shift 2
exec chroot "$root" "$@"
"""


class BuildError(Exception):
    """An image cannot be built. The message is the end of what was said."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where buildah keeps images: a folder."""

    folder: Path
    driver: str

    @classmethod
    def at(cls, folder: Path) -> "Store":
        """With overlays where this machine has them; vfs copies all files of an image at every step."""
        folder.mkdir(exist_ok=True)
        overlays = cls(folder, "overlay")
        try:
            overlays.buildah("info")
        except BuildError:
            return cls(folder, "vfs")
        return overlays

    def buildah(self, *arguments: str | Path) -> str:
        """Its standard output. Raises BuildError."""
        return said("buildah", "--storage-driver", self.driver, "--root", self.folder / "store", *arguments)

    def tidy(self) -> None:
        """Removes what `files_of` made, and images that newer ones have replaced. Raises BuildError."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--prune")
        # buildah leaves it mounted on itself, and the folder could not be removed.
        if (mounted := self.folder / "store" / "overlay").is_mount():
            said("umount", mounted)

    def has(self, image: str) -> bool:
        try:
            self.buildah("inspect", "--type", "image", image)
        except BuildError:
            return False
        return True

    def take_base(self) -> str:
        """Gets the base image, and says what it is. Raises BuildError."""
        base = base_image()
        if self.has(base):
            return f"{base} as it is in {self.folder}"
        try:
            self.buildah("pull", "--quiet", base)
        except BuildError:
            self._debootstrap(base)
            return f"Debian's bookworm from its mirror in place of {base}"
        return base

    def _debootstrap(self, base: str) -> None:
        root = self.folder / "debian"
        shutil.rmtree(root, ignore_errors=True)
        said("debootstrap", "--variant=minbase", "bookworm", root)
        for name in SLIM:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir(parents=True)
        excluded = "".join(f"path-exclude /{name}/*\n" for name in SLIM if name.startswith("usr"))
        (root / "etc" / "dpkg" / "dpkg.cfg.d" / "slim").write_text(excluded)
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, root, "/")
        self.buildah("commit", "--quiet", container, base)
        self.buildah("rm", container)
        shutil.rmtree(root)

    def build(self, part: str, *arguments: str) -> str:
        """The image's name. Raises BuildError."""
        image = f"siglip-{part}:check"
        # Without --layers: kept steps would fill the disk, run by run.
        how = ["--quiet", "--isolation", "chroot", "--network", "host", "--pull-never"]
        how += [*self._of_this_machine(), *arguments]
        file = FILES / f"{part}.Containerfile"
        self.buildah("build", *how, "--file", file, "--tag", image, ROOT)
        return image

    def _of_this_machine(self) -> list[str]:
        """How pip reaches packages from here: authorities and folders that it is told of by variables."""
        lines, mounts = ["[global]"], []
        if certificates := os.environ.get("PIP_CERT"):
            lines.append("cert = /run/ca.pem")
            mounts.append(f"{certificates}:/run/ca.pem:ro")
        if (wheels := os.environ.get("PIP_FIND_LINKS", "")) and Path(wheels).is_dir():
            lines.append("find-links = /run/wheels")
            mounts.append(f"{wheels}:/run/wheels:ro")
        configuration = self.folder / "pip.conf"
        configuration.write_text("\n".join(lines) + "\n")
        mounts.append(f"{configuration}:/etc/pip.conf:ro")
        return [word for mount in mounts for word in ("--volume", mount)]

    def files_of(self, image: str) -> Path:
        """The root of a container made from the image; `tidy` ends it."""
        container = self.buildah("from", "--pull-never", image).strip()
        return Path(self.buildah("mount", container).strip())

    def settings_of(self, image: str) -> dict[str, list[str]]:
        about = json.loads(self.buildah("inspect", "--type", "image", image))
        config: dict[str, list[str]] = about["OCIv1"]["config"]
        return config


def base_image() -> str:
    """The default of BASE, which all container files share."""
    lines = {
        line.removeprefix("ARG BASE=").strip()
        for path in FILES.glob("*.Containerfile")
        for line in path.read_text().splitlines()
        if line.startswith("ARG BASE=")
    }
    (base,) = lines
    return base


def size_bytes(files: Path) -> int:
    told = said("du", "--summarize", "--apparent-size", "--block-size=1", "--one-file-system", files)
    return int(told.split()[0])


def start(
    files: Path, shared: Path, config: dict[str, list[str]], environ: dict[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Runs the image's command as the first process of a container; `shared` is its /mnt."""
    variables = [*config["Env"], *(f"{name}={value}" for name, value in environ.items())]
    command = [*SETPRIV, "env", "-i", *variables, *config["Entrypoint"], *config["Cmd"]]
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", START, "sh"]
    with log.open("wb") as stderr:
        return subprocess.Popen([*isolated, str(files), str(shared), *command], stderr=stderr)


def said(*command: str | Path) -> str:
    """What a command printed. Raises BuildError."""
    words: Sequence[str] = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        told = done.stderr.strip().splitlines()[-5:]
        raise BuildError("\n".join([*told, f"{words[0]} ended with status {done.returncode}"]))
    return done.stdout
