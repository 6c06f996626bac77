//! To be written.
pub mod outcome;
