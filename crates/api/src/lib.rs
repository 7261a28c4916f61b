//! Typed Kubernetes objects as users write them, parsed with located errors
