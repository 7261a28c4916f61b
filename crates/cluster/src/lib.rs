//! Expands workloads to the pods, addresses and nodes that Kubernetes controllers would make
