"""How fast a host sends, and what it loses: a token bucket on its interface, a random drop of what arrives."""

import shutil

from thinwire.cluster.specs import check_rate
from thinwire.cluster.tools import call
from thinwire.errors import ThinwireError

INTERFACE = "eth0"  # of every host, in its own namespace
LEAST_BURST_BYTES = 4600  # three full packets
BURST_S = 1e-3
_TABLE = "inet thinwire"
_ONE_SEGMENT, _ANY_SEGMENTS = "1", "65535"
QUEUE_BYTES = 4 << 20  # senders are slowed down by their socket before packets are dropped here


def set_rate(namespace: str, mbps: float | int) -> None:
    """Limit what leaves the namespace to `mbps` (10⁶ bits a second), from now on.

    The bucket is small, about a millisecond's worth: what fits a bucket travels at once after a pause, so one of
    64 kB would carry a small model's whole exchange for nothing.
    """
    check_rate(mbps)
    burst = max(LEAST_BURST_BYTES, round(mbps * 1e6 / 8 * BURST_S))
    rate = f"{round(mbps * 1e6)}bit"
    shape = ("tbf", "rate", rate, "burst", str(burst), "limit", str(QUEUE_BYTES + burst))
    call("tc", "-n", namespace, "qdisc", "replace", "dev", INTERFACE, "root", "handle", "1:", *shape)


def require_loss_tool() -> str:
    """The program that can drop packets here, `nft` or `iptables`."""
    for program in ("nft", "iptables"):
        if shutil.which(program):
            return program
    raise ThinwireError(
        "Packet loss needs the program `nft` or `iptables`: install the package nftables, or ask for none."
    )


def set_loss(namespace: str, loss: float | int) -> None:
    """Drop this share of the packets that arrive in the namespace, from now on; they have used the link by then, as
    real ones."""
    inside = ("ip", "netns", "exec", namespace)
    # Packets may be many segments in one as long as nobody looks; a loss must hit single ones.
    segments = _ONE_SEGMENT if loss else _ANY_SEGMENTS
    call("ip", "-n", namespace, "link", "set", "dev", INTERFACE, "gso_max_segs", segments)
    if require_loss_tool() == "nft":
        rule = f'iifname "{INTERFACE}" numgen random mod 1000000 < {max(1, round(loss * 1e6))} drop' if loss else ""
        chain = f"chain arriving {{\ntype filter hook input priority 0\n{rule}\n}}"
        # Once made anew whether it was there or not: nft carries out all of it or nothing.
        rules = f"table {_TABLE}\ndelete table {_TABLE}\ntable {_TABLE} {{\n{chain}\n}}\n"
        call(*inside, "nft", "-f", "-", stdin=rules)
        return
    call(*inside, "iptables", "-w", "-F", "INPUT")  # of the namespace, where nobody else has rules
    if loss:
        drop = ("-m", "statistic", "--mode", "random", "--probability", f"{loss:.6f}", "-j", "DROP")
        call(*inside, "iptables", "-w", "-A", "INPUT", "-i", INTERFACE, *drop)
