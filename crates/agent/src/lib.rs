//! The node agent: objects in, plan, kernel state, flow records and a local socket out.
