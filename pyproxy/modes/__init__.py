"""The programs: one `Config` and one `run` each, wiring what stands below."""
