//! The workstation tool as a library, for its tests.
