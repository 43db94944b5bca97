"""The k8s part of everloop."""
