"""Estimates on a monitor, without a desktop."""

from .hotplug import Connector, list_connectors

__all__ = ["Connector", "list_connectors"]
