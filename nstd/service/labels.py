"""The values that labels of the metrics take, and the borders of the histograms' buckets."""

from __future__ import annotations

OUTCOMES = ("done", "failed", "cancelled")
STAGES = ("queue", "decode", "optimize", "encode", "deliver")
LOSS_KINDS = ("total", "content", "style", "tv")
IGNORED_CLASSES = ("temp", "hidden", "system", "extension", "sidecar", "unsafe", "depth", "other")
WATCH_MODES = ("events", "scan")
PAUSE_REASONS = ("no_space", "io", "unmounted", "other")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LOSSES = (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1e3, 1e4, 1e6, 1e9)
