//! **simlab**: the test bench for the policies you actually run.
//!
//! *Policies are pure; the kernel keeps time; the world connects them; the lab repeats and compares; reports show.*
//!
//! ```text
//! 5  main, cli                     one file per verb; the only code that prints, exits or reads a real clock
//! 4  report                        exporters that return bytes
//! 3  lab, conform                  run, replicate, compare, gate; lab/assemble knows both scenario and world
//! 2  scenario      | world         what was written | what exists
//! 1  policies      | kernel        sans-IO algorithms | event queue and run loop
//! 0  time, units, random, stats    vocabulary and pure numerics
//! ```
//!
//! Imports point strictly down; siblings on one layer never import each other (`tests/it/layers.rs` holds this).

pub mod time;
pub mod units;

pub mod random;
pub mod stats;

pub mod kernel;
pub mod policies;

pub mod scenario;
pub mod world;

pub mod conform;
pub mod lab;

pub mod report;

pub mod cli;
