//! Loads the BPF programs, keeps their maps equal to a plan, reads their events
