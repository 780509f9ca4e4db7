"""What the Redis user of --redis-url may do, and which role that makes."""

from broker import ROLES, Permission, Role, denied_commands, permissions_of
from siglip_cli.doctor.findings import Finding
from siglip_settings import RedisSettings

Denied = dict[Role, list[Permission]]


def denied_by_role(settings: RedisSettings) -> Denied:
    """For each role what this user lacks. Raises BrokerUnavailable."""
    denied = {role: denied_commands(settings, role) for role in ROLES}
    return {role: [each for each in found if _matters(each, settings)] for role, found in denied.items()}


def may_be(denied: Denied) -> list[Role]:
    """The roles for which the user has all that is needed."""
    return [role for role in ROLES if not _needed(denied[role])]


def check_permissions(denied: Denied, role: Role | None) -> Finding:
    """`role` None: any will do; where there is none, the nearest is told of."""
    fitting = may_be(denied)
    asked = role or (fitting[0] if fitting else _nearest(denied))
    if needed := _needed(denied[asked]):
        text = f"this user lacks for {_named(asked)}: {', '.join(map(str, needed))}"
        return Finding("problem", "permissions", text, f"'siglip acl {asked}' prints the rules")
    if Permission("info") in denied[asked]:
        return Finding(
            "warning",
            "permissions",
            f"enough for: {', '.join(fitting)}; but INFO is denied",
            "allow it: without it eviction and a server that is too old go unnoticed",
        )
    return Finding("ok", "permissions", f"enough for: {', '.join(fitting)}")


def _named(role: Role) -> str:
    return f"an {role}" if role == "operator" else f"a {role}"


def _matters(permission: Permission, settings: RedisSettings) -> bool:
    """Who is no Sentinel's or cluster's client sends nothing that these are asked."""
    if permission.command == "role":
        return settings.redis_sentinel_name is not None
    return permission.command != "cluster|slots" or settings.redis_cluster == "on"


def _needed(denied: list[Permission]) -> list[Permission]:
    return [each for each in denied if each.command != "info" and not each.is_on_demand]


def _nearest(denied: Denied) -> Role:
    """The role of which the smallest part is lacking."""
    shares = {role: len(denied[role]) / len(list(permissions_of(role))) for role in ROLES}
    return min(ROLES, key=shares.__getitem__)
