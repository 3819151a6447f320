"""The program as a service on a device.

Deployment (configuration file, privileges), the capture indicator, core dumps, real-time
scheduling, and the notify protocol of systemd.
"""

from .core_dumps import no_core_dumps
from .deployment import (
    SERVICE_CONFIG,
    add_config_argument,
    add_set_argument,
    drop_privileges_to,
    find_service_config,
)
from .indicator import Indicator, IndicatorError, explain_unusable, find_file, open_indicator
from .realtime import (
    DEVICE_PRIORITY,
    HELPER_PRIORITY,
    PIPELINE_PRIORITY,
    gc_frozen,
    list_threads,
    raise_thread_priorities,
    realtime_permitted,
    realtime_priority,
    run_in_background,
    switching_every,
)
from .sd_notify import Watchdog

__all__ = [
    "DEVICE_PRIORITY",
    "HELPER_PRIORITY",
    "PIPELINE_PRIORITY",
    "SERVICE_CONFIG",
    "Indicator",
    "IndicatorError",
    "Watchdog",
    "add_config_argument",
    "add_set_argument",
    "drop_privileges_to",
    "explain_unusable",
    "find_file",
    "find_service_config",
    "gc_frozen",
    "list_threads",
    "no_core_dumps",
    "open_indicator",
    "raise_thread_priorities",
    "realtime_permitted",
    "realtime_priority",
    "run_in_background",
    "switching_every",
]
