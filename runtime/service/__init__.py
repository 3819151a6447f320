"""The program as a service: systemd, the capture indicator, real-time scheduling."""
