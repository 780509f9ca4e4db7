"""A registry with what every process of the service has."""

from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Info, ProcessCollector


def new_registry(*, process: str, model: str, fingerprint: str) -> CollectorRegistry:
    """CPU, memory and open files of this process, and `siglip_build_info`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    try:
        installed = version("siglip")
    except PackageNotFoundError:
        installed = "unknown"
    build = Info("siglip_build", "What runs here.", registry=registry)
    build.info({"process": process, "version": installed, "model": model, "fingerprint": fingerprint})
    return registry
