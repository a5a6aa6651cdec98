//! The lean runtime of Fulcrum.
