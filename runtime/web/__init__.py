"""A page and metrics over HTTP, each served by a process of its own.

In: estimates, health and, if configured, the camera's image. Out: HTTP on one address and port.
The process that makes estimates only sends messages through a socket pair: `sink` and `metrics` use
`process` for that. `server` is the other process, with `page_site` or `metrics_site`, `connections`
(limits), `hosts` (which requests are refused) and `isolation` (it opens no file and no connection).
All of them are imported on demand.
"""
