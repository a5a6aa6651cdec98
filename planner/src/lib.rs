//! The offline planner of Fulcrum.
//!
//! It finds the few power modes of a board that are worth having, from as few profiles as it can:
//!
//! - [`profile`]: where measurements come from, and the journal that keeps them;
//! - [`workload`], [`space`]: what is measured, and in which modes;
//! - [`mod@bench`], [`pool`]: where profiles are paid, and what was observed;
//! - [`prior`]: what earlier plans of the board taught;
//! - [`surrogate`]: what is believed of cells that were not paid for;
//! - [`search`]: which profiles to pay for;
//! - [`front`], [`margin`], [`plan`]: from observations to a plan table;
//! - [`demand`], [`offer`], [`answer`]: what users ask, how a mode can answer, and the best answer;
//! - [`evaluate`]: all of it against the exhaustive optimum.
//!
//! # Invariants
//! - I3: a plan holds observed cells only (`plan::tests::i3_every_cell_of_a_plan_was_observed`).
//! - I7: no profile is trusted whose clocks, read back, differ from what was asked, or during which
//!   over-current or throttling was counted (`bench::tests::i7_no_faulty_measurement_reaches_the_pool`).
//! - I8: seed in, bytes out (`plan::tests::i8_the_same_seed_gives_the_same_bytes`). No wall clock, no hash
//!   order, no thread order; transcendental functions from `libm`.

pub mod answer;
pub mod bench;
pub mod boards;
pub mod demand;
pub mod evaluate;
pub mod front;
pub mod margin;
pub mod offer;
pub mod plan;
pub mod pool;
pub mod prior;
pub mod profile;
pub mod random;
pub mod search;
pub mod space;
pub mod surrogate;
pub mod workload;
