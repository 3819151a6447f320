"""The view on a monitor, without a desktop: `sink.ScreenSink`.

Scenes (`scene`) are drawn into pixels (`view`, `layout`, `widgets`), which the kernel's display
interface shows (`display`, `drm`, `drm_uapi`) on a monitor that may come and go (`hotplug`).
"""

from .hotplug import Connector, list_connectors

__all__ = ["Connector", "list_connectors"]
