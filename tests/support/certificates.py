"""An authority for one test, and certificates that it signs, made with openssl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HAS_OPENSSL = shutil.which("openssl") is not None


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path) -> Pair:
    """The certificate of an authority, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / "authority.pem", folder / "authority.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2),
        *("-subj", "/CN=authority", "-out", pair.certificate, "-keyout", pair.key),
    )
    return pair


def signed(by: Pair, folder: Path, name: str, *, days: int = 2) -> Pair:
    """A certificate for `name` that also holds for 127.0.0.1; with fewer than 0 days it has expired."""
    folder.mkdir(parents=True, exist_ok=True)
    pair, request = Pair(folder / f"{name}.pem", folder / f"{name}.key"), folder / f"{name}.csr"
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _openssl(
        *(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            f"/CN={name}",
        ),
        *("-out", request, "-keyout", pair.key),
    )
    _openssl(
        *("x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial"),
        *("-days", days, "-extfile", extensions, "-out", pair.certificate),
    )
    return pair
