"""The loop on Kubernetes: its manifests, and what applies and watches them. Nothing of the loop itself is in here.

base, components, overlays   plain kustomize, which `kubectl apply -k` takes as well

Read in this order:

objects      what an object is called, and which comes first
merge        patches, as kustomize and Kubernetes understand them
kustomize    an overlay becomes a list of objects
render       the same with a namespace, a configuration and images of one's own
errors       what can go wrong with a cluster
api          the API server: every call goes through here
changes      how two objects differ
ready        whether an object is what it shall be, and why not
releases     what was applied, kept in the cluster, so that one can go back
needs        what a cluster must have before anything is applied
rollout      apply, and wait
tunnel       a page of a pod, through the API server
status       what runs
face         what a candidate for a lease shows: ready, alive, metrics
lead         one process among many: the trainer's lease
"""
