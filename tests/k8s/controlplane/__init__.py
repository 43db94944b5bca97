"""A Kubernetes control plane on the loopback, without Docker.

main.go    one Go program: etcd, API server, controller manager, scheduler, kwok (which plays the kubelets), kubectl
build      compiles it once, into the user's cache
launch     one process of it, started and stopped
cluster    all of them together, with nodes, storage, and clients
stages     what the kubelets pretend
"""
