//! Pure numerics: from samples to statements with an error.
//!
//! [`histogram`] collects latencies; [`interval`] and [`paired`] turn replications into intervals; [`holm`] keeps many
//! comparisons honest; [`clusters`] notices when a mean is no summary at all; [`kaplan_meier`] handles times that ran out of time.
//!
//! Replications are independent runs, so everything here assumes independent values and nothing assumes that there are many.

pub mod clusters;
pub mod fit;
pub mod histogram;
pub mod holm;
pub mod interval;
pub mod kaplan_meier;
pub mod moments;
pub mod paired;
