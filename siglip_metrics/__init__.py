"""What gateways and workers show to Prometheus: the page they have in common."""

from siglip_metrics.page import ALL, Page, PageError
from siglip_metrics.registry import new_registry

__all__ = ["ALL", "Page", "PageError", "new_registry"]
