"""Where processes listen, as Linux tells it."""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from socket import htonl

LISTENING = "0A"


def listening_addresses(pids: set[int]) -> set[str]:
    """Hosts of the TCP sockets on which these processes accept."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    tables = [table for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if table.exists()]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return {_host(line[1]) for line in lines if line[3] == LISTENING and line[9] in inodes}


def _socket_inodes(pid: int) -> list[str]:
    links = [os.path.realpath(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return re.findall(r"/socket:\[(\d+)\]", "\n".join(links))


def _host(address: str) -> str:
    """Of a hexadecimal address in words of this machine's byte order."""
    words = re.findall("[0-9A-F]{8}", address.partition(":")[0])
    found = ip_address(b"".join(htonl(int(word, 16)).to_bytes(4, "big") for word in words))
    return str(getattr(found, "ipv4_mapped", None) or found)
