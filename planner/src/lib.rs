//! The offline planner of Fulcrum.
