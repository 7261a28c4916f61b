//! Clusters of network namespaces on one Linux host
