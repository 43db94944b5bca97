"""Kubernetes: on a real control plane, built by tests/k8s/controlplane from Go modules and run on this machine's loopback."""
