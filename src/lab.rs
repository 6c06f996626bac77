//! Runs, repeats and compares: from a study to what it found.
//!
//! [`summary`] turns replications into intervals, [`compare`] strategies into paired differences, [`gate`] thresholds into pass and fail,
//! and [`verdict`] all of it into one sentence and the doubts that go with it. [`metric`] knows what the figures mean.

pub mod compare;
pub mod gate;
pub mod metric;
pub mod outcome;
pub mod summary;
pub mod verdict;
