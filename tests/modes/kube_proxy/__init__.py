"""Tests of the kube proxy: settings, health, and the agent on loopback."""
